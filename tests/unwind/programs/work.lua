-- Tables, strings, closures, coroutines.
local t = {}
for i = 1, 5000 do t[i] = tostring(i) .. ("x"):rep(i % 50) end
table.sort(t)
local co = coroutine.wrap(function() for _, s in ipairs(t) do coroutine.yield(s:gsub("x", "yz")) end end)
local n = 0
for s in co do n = n + #s end
print(n, string.format("%q", t[1]))
