-- As work.sql, with few calls: a debugger stops at each.
create table t(a integer primary key, b text, c real);
with recursive n(i) as (select 1 union all select i + 1 from n where i < 300) insert into t select i, 'row ' || i, i * 1.5 from n;
create index tb on t(b);
select count(*), sum(x.c) from t x join t y on x.a = y.a where x.b like 'row 1%';
select json_group_array(json_object('a', a, 'b', b)) from t where a < 150;
select a, row_number() over (order by b desc), group_concat(b) over (order by a rows 3 preceding) from t limit 50;
create view v as select b || c as d from t; select max(d), min(d), count(distinct d) from v;
select * from t where b in (select 'row ' || (a * 2) from t) order by c desc limit 100;
