# As work.py, with few calls: a debugger stops at each.
import json, re

data = json.loads(json.dumps({str(i): [i, str(i) * 3, {"k": i}] for i in range(100)}))
words = re.compile(r"(\w+)-(\d+)+(x|y)*").findall(" ".join("w%d-%d" % (i, i) for i in range(50)))
names = []
for i in range(20):
    try:
        raise ValueError("%d" % i)
    except ValueError as error:
        names.append(str(error))
print(len(names), len(data), len(words))
