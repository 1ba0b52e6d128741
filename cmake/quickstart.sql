-- A small shop: 60,000 orders, an index, a report. Its allocations are what the quick start shows.
CREATE TABLE orders (id INTEGER PRIMARY KEY, customer TEXT, item TEXT, price REAL);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 60000)
INSERT INTO orders SELECT i, 'customer ' || (i * 7919 % 1000), 'item ' || (i * 104729 % 300), i % 97 + 0.5 FROM n;
CREATE INDEX by_customer ON orders (customer, item);
SELECT customer, count(*) AS orders, sum(price) AS spent, group_concat(DISTINCT substr(item, 6)) IS NOT NULL AS some
  FROM orders GROUP BY customer ORDER BY spent DESC LIMIT 3;
