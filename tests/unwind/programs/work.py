# Allocates from many places of the interpreter: JSON, regular expressions, classes, exceptions, imports.
import collections, json, re, decimal

class Node(collections.namedtuple("Node", "name children")):
    def walk(self):
        yield self
        for child in self.children:
            yield from child.walk()

def build(depth):
    return Node("n%d" % depth, [build(depth - 1) for _ in range(3)] if depth else [])

names = [node.name for node in build(6).walk()]
data = json.loads(json.dumps({str(i): [i, str(i) * 3, {"k": i}] for i in range(500)}))
words = re.compile(r"(\w+)-(\d+)+(x|y)*").findall(" ".join("w%d-%d" % (i, i) for i in range(500)))
for i in range(200):
    try:
        raise ValueError("%d" % i)
    except ValueError as error:
        names.append(str(error))
print(len(names), len(data), len(words), sum(map(decimal.Decimal, range(100))))
