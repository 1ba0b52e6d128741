"""A small shop: 20,000 orders are written as JSON, read back, and added up by customer."""
import json

orders = [{"customer": f"customer {i * 7919 % 1000}", "item": f"item {i * 104729 % 300}", "price": i % 97 + 0.5}
          for i in range(20000)]
text = json.dumps(orders)
spent = {}
for order in json.loads(text):
    spent[order["customer"]] = spent.get(order["customer"], 0) + order["price"]
for customer in sorted(spent, key=lambda name: (-spent[name], name))[:3]:
    print(f"{customer}: {spent[customer]:.2f}")
