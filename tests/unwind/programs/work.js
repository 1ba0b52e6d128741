// Buffers, JSON, compression: native allocations under interpreted and compiled frames.
const zlib = require("zlib");
let sum = 0;
function deeper(n) { return n ? deeper(n - 1) + 1 : Buffer.alloc(10000).length; }
for (let i = 0; i < 500; i++) sum += deeper(10);
const text = JSON.stringify(Array.from({ length: 5000 }, (_, i) => ({ i, s: "s" + i })));
console.log(sum, JSON.parse(text).length, zlib.gzipSync(text).length);
