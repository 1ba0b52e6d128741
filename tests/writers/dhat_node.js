// SPDX-License-Identifier: MIT
//
// node dhat_node.js DH_VIEW.JS REPORT.DHAT.JSON - lets Valgrind's own viewer read the file and build its tree,
// without a browser, and compares the root's sums with those of the entries.
"use strict";
const fs = require("fs"), vm = require("vm");
const [viewer, file] = process.argv.slice(2);
const context = vm.createContext({ TEXT: fs.readFileSync(file, "utf8"), console, document: {} });
vm.runInContext(fs.readFileSync(viewer, "utf8"), context, { filename: viewer });
const read = vm.runInContext(`
  gSelect = { selectedIndex: 1, childNodes: gSelectData.map(() => ({ label: "", disabled: false, selected: false })) };
  gData = JSON.parse(TEXT);
  buildTree();
  ({ tb: gRoot._totalBytes, tbk: gRoot._totalBlocks, tl: gRoot._totalLifetimes, gb: gRoot._atTGmaxBytes,
     gbk: gRoot._atTGmaxBlocks, eb: gRoot._atTEndBytes, ebk: gRoot._atTEndBlocks,
     disabled: gSelect.childNodes.filter((o) => o.disabled).length, avg: avgLifetime(gRoot._totalAvgLifetimes()) })`,
  context);
const data = JSON.parse(fs.readFileSync(file, "utf8"));
let bad = 0;
for (const key of ["tb", "tbk", "tl", "gb", "gbk", "eb", "ebk"]) {
  const sum = data.pps.reduce((n, pp) => n + pp[key], 0);
  if (!Number.isFinite(read[key]) || sum !== read[key]) { bad++; console.log(`${key}: viewer ${read[key]}, file ${sum}`); }
}
if (!(read.tb > 0) || /NaN|Infinity/.test(read.avg)) { bad++; console.log(`viewer shows ${read.tb} bytes, ${read.avg}`); }
// Of its orders only those by accesses (8 in 3.19) may be disabled: block lifetimes are there.
if (read.disabled !== 8) { bad++; console.log(`${read.disabled} orders are disabled`); }
console.log(`dh_view.js: ${data.pps.length} entries, ${read.tb} bytes, ${bad ? bad + " differences" : "sums agree"}`);
process.exit(bad ? 1 : 0);
