/* SPDX-License-Identifier: MIT
 *
 * report.js - draws the HTML report from the JSON that write_html.c put into the page.
 *
 * D.nodes is the tree of all call stacks, outermost frame first: pairs of (distance back to the parent, frame);
 * a node's number is its place + 1, and 0 is the root. So parents come before children, and summing up is one
 * loop from the back. A site is the node where its stack ends, and a number in each column.
 * Everything below is drawn from typed arrays and only where it can be seen: 50,000 sites scroll smoothly.
 */
const D = JSON.parse(document.getElementById("profile").textContent);
const $ = (id) => document.getElementById(id);
const make = (tag, text, className) => {
  const e = document.createElement(tag);
  if (text !== undefined) e.textContent = text;
  if (className) e.className = className;
  return e;
};

/* ---- numbers ---- */

function scaled(n, step, units) {
  let i = 0, x = Math.abs(n);
  while (x >= step && i < units.length - 1) { x /= step; i++; }
  if (i > 0 && x >= 999.5 && step === 1024 && i < units.length - 1) { x /= step; i++; }
  const digits = i === 0 && Number.isInteger(n) ? 0 : x < 9.995 ? 2 : x < 99.95 ? 1 : 0;
  return (n < 0 ? "\u2212" : "") + x.toFixed(digits) + units[i];
}
const bytes = (n) => scaled(n, 1024, [" B", " KiB", " MiB", " GiB", " TiB", " PiB"]);
const plain = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
const exact = (n) => plain.format(Math.round(n));
const count = (n) => Math.abs(n) < 100000 ? exact(n) : scaled(n, 1000, ["", " k", " M", " G", " T"]);
const blocks = (n) => (n === 1 ? "1 block" : exact(n) + " blocks");
function time(ns) {
  if (ns < 1e3) return scaled(ns, 1e9, [" ns"]);
  if (ns < 1e6) return scaled(ns / 1e3, 1e9, [" \u00b5s"]);
  if (ns < 1e9) return scaled(ns / 1e6, 1e9, [" ms"]);
  if (ns < 120e9) return scaled(ns / 1e9, 1e9, [" s"]);
  return ns < 7200e9 ? (ns / 60e9).toFixed(1) + " min" : (ns / 3600e9).toFixed(1) + " h";
}
function percent(part, whole) {
  if (!(whole > 0)) return "";
  const p = 100 * part / whole;
  return (p === 0 ? "0" : p < 0.01 ? "<0.01" : p < 9.995 ? p.toFixed(2) : p.toFixed(1)) + "%";
}
const both = (n, isBytes) =>
  isBytes ? bytes(n) + (Math.abs(n) >= 1024 ? " (" + exact(n) + " B)" : "") : exact(n);

/* ---- what the columns mean ---- */

const VALUES = [
  { key: "allocated_bytes", name: "Allocated bytes", isBytes: true },
  { key: "allocated_count", name: "Allocations" },
  { key: "at_peak_bytes", name: "Bytes live at the heap\u2019s peak", isBytes: true },
  { key: "at_peak_count", name: "Blocks live at the heap\u2019s peak" },
  { key: "live_bytes", name: "Bytes live at the end", isBytes: true },
  { key: "live_count", name: "Blocks live at the end" },
  { key: "requested_bytes", name: "Requested bytes", isBytes: true },
  { key: "waste_bytes", name: "Waste: block minus requested", isBytes: true },
  { key: "temporary_count", name: "Short-lived blocks" },
  { key: "remote_free_count", name: "Blocks freed by another thread" },
];
const C = D.columns, S = C.node.length, N = D.nodes.length / 2 + 1;
for (const v of VALUES) {
  v.column = Float64Array.from(C[v.key], (n) => Math.max(0, n));
  v.sum = v.column.reduce((a, b) => a + b, 0);
}
const frameCount = D.frames.length / 4;
const frameFunction = (f) => D.strings[D.frames[4 * f]];
const frameFile = (f) => D.strings[D.frames[4 * f + 1]];
const frameLine = (f) => D.frames[4 * f + 2];
const frameModule = (f) => D.strings[D.frames[4 * f + 3]];
/* A name without its argument list, where room is short: "f(int) const" is f, "operator()" stays whole;
 * "0xADDR (module+0xOFFSET)" is module+0xOFFSET. */
function shortName(name) {
  const bare = /^0x[0-9a-f]+ \((.+\+0x[0-9a-f]+)\)$/.exec(name);
  if (bare) return bare[1];
  const end = name.lastIndexOf(")");
  if (end < 0 || !/^( const|&|\[clone [^\]]*\]| )*$/.test(name.slice(end + 1))) return name;
  let depth = 0, i = end;
  for (; i >= 0; i--) {
    if (name[i] === ")") depth++;
    else if (name[i] === "(" && --depth === 0) break;
  }
  return i < 1 || name[i - 1] === " " || name.slice(0, i).endsWith("operator") ? name : name.slice(0, i);
}
/* The same in about so many letters: without what templates were made for. */
function fittingName(name, letters) {
  const short = shortName(name);
  if (short.length <= letters) return short;
  let made = "", depth = 0;
  for (let i = 0; i < short.length; i++) {
    const operator = depth === 0 && /^operator(<=>|<<=?|>>=?|->\*?|[<>]=?)/.exec(short.slice(i, i + 12));
    if (operator) {
      made += operator[0];
      i += operator[0].length - 1;
    } else if (short[i] === "<") {
      if (depth++ === 0) made += "<\u2026>";
    } else if (short[i] === ">" && short[i - 1] !== "-") {
      if (--depth < 0) return short;
    } else if (depth === 0) made += short[i];
  }
  return depth === 0 ? made : short;
}
const baseName = (path) => path.slice(path.lastIndexOf("/") + 1);
function framePlace(f) {
  const file = frameFile(f);
  return file ? baseName(file) + (frameLine(f) ? ":" + frameLine(f) : "") : baseName(frameModule(f));
}

/* ---- the tree as recorded, and as drawn: frames of one function and one parent are one box ---- */

const parent = new Int32Array(N), frame = new Int32Array(N);
frame[0] = -1;
for (let i = 1; i < N; i++) {
  parent[i] = i - D.nodes[2 * i - 2];
  frame[i] = D.nodes[2 * i - 1];
}
/* A function is told apart by its name and its module. */
const functionOf = new Int32Array(frameCount), functionFrame = [];
{
  const seen = new Map();
  for (let f = 0; f < frameCount; f++) {
    const key = D.frames[4 * f] * 0x200000 + D.frames[4 * f + 3];
    let id = seen.get(key);
    if (id === undefined) { seen.set(key, id = functionFrame.length); functionFrame.push(f); }
    functionOf[f] = id;
  }
}
const functionCount = functionFrame.length;
const functionName = (fn) => frameFunction(functionFrame[fn]);
const functionModule = (fn) => frameModule(functionFrame[fn]);

class Tree {
  constructor() {
    this.parent = [0]; this.fn = [-1]; this.site = new Int32Array(S); this.index = new Map(); this.sums = {};
  }
  child(p, fn) {
    const key = p * functionCount + fn;
    let c = this.index.get(key);
    if (c === undefined) {
      c = this.parent.length;
      this.index.set(key, c);
      this.parent.push(p);
      this.fn.push(fn);
    }
    return c;
  }
  finish() {
    const n = this.parent.length;
    this.index = null;
    this.depth = new Uint16Array(n);
    this.first = new Int32Array(n + 1);
    for (let i = 1; i < n; i++) {
      this.depth[i] = this.depth[this.parent[i]] + 1;
      this.first[this.parent[i] + 1]++;
    }
    for (let i = 0; i < n; i++) this.first[i + 1] += this.first[i];
    const at = this.first.slice();
    this.kids = new Int32Array(n);
    for (let i = 1; i < n; i++) this.kids[at[this.parent[i]]++] = i;
    return this;
  }
  /* Sums for a value, and the children of each node with the largest first. */
  weigh(v) {
    if (this.sums[v.key]) return this.sums[v.key];
    const n = this.parent.length, sum = new Float64Array(n);
    for (let s = 0; s < S; s++) sum[this.site[s]] += v.column[s];
    for (let i = n - 1; i > 0; i--) sum[this.parent[i]] += sum[i];
    const order = this.kids.slice();
    for (let i = 0; i < n; i++)
      if (this.first[i + 1] - this.first[i] > 1)
        order.subarray(this.first[i], this.first[i + 1]).sort((a, b) => sum[b] - sum[a]);
    return this.sums[v.key] = { sum, order };
  }
}
let down, up;
function treeDown() {
  if (down) return down;
  down = new Tree();
  const drawn = new Int32Array(N);
  for (let i = 1; i < N; i++) drawn[i] = down.child(drawn[parent[i]], functionOf[frame[i]]);
  for (let s = 0; s < S; s++) down.site[s] = drawn[C.node[s]];
  return down.finish();
}
function treeUp() {
  if (up) return up;
  up = new Tree();
  for (let s = 0; s < S; s++) {
    let at = 0;
    for (let i = C.node[s]; i > 0; i = parent[i]) at = up.child(at, functionOf[frame[i]]);
    up.site[s] = at;
  }
  return up.finish();
}

/* ---- colours: one hue a module, the largest first ---- */

const HUES = [212, 28, 142, 276, 48, 184, 340, 96, 248, 12, 162, 308];
const moduleHue = new Map();
{
  const own = new Map();
  for (let s = 0; s < S; s++) {
    if (!C.node[s]) continue;
    const m = frameModule(frame[C.node[s]]);
    own.set(m, (own.get(m) || 0) + VALUES[0].column[s]);
  }
  for (let f = 0; f < frameCount; f++) if (!own.has(frameModule(f))) own.set(frameModule(f), 0);
  [...own].sort((a, b) => b[1] - a[1]).forEach(([m], i) => moduleHue.set(m, i < HUES.length ? HUES[i] : -1));
}
const isDark = () => document.documentElement.dataset.theme === "dark";
const fills = new Map();
function fillOf(fn, isDim) {
  const key = fn * 4 + (isDim ? 2 : 0) + (isDark() ? 1 : 0);
  let fill = fills.get(key);
  if (fill) return fill;
  let hash = 7;
  for (const ch of functionName(fn)) hash = (hash * 31 + ch.codePointAt(0)) % 9973;
  const hue = moduleHue.get(functionModule(fn));
  const light = (isDark() ? 58 : 72) + (hash % 13) - 6;
  fill = isDim ? (isDark() ? "hsl(215 9% 36%)" : "hsl(215 12% 87%)")
       : hue < 0 ? `hsl(215 10% ${light}%)` : `hsl(${hue + (hash % 11) - 5} ${isDark() ? 46 : 62}% ${light}%)`;
  fills.set(key, fill);
  return fill;
}

/* ---- state, kept in the address so that a view can be passed on ---- */

/* The value and the rows that were asked for when the page was written, where it has them. */
const givenValue = VALUES.some((v) => v.key === D.value && v.sum > 0) ? D.value : "allocated_bytes";
const state = { value: givenValue, view: "icicle", group: D.by, search: "", sort: "", theme: "", site: "" };
for (const [k, v] of new URLSearchParams(location.hash.slice(1))) if (k in state) state[k] = v;
if (!VALUES.some((v) => v.key === state.value)) state.value = givenValue;
function remember() {
  const given = Object.entries(state).filter(([, v]) => v !== "");
  try { history.replaceState(null, "", "#" + new URLSearchParams(given)); } catch (e) { /* a sandboxed frame */ }
}
const value = () => VALUES.find((v) => v.key === state.value);

let wanted = null; /* what is searched for, as a function of text */
let functionFound = null;
function setSearch(text) {
  state.search = text;
  wanted = null;
  $("search").setCustomValidity("");
  const m = /^\/(.+)\/(i?)$/.exec(text);
  if (m) {
    try { const re = new RegExp(m[1], m[2]); wanted = (t) => re.test(t); }
    catch (e) { $("search").setCustomValidity(e.message); }
  } else if (text) {
    const low = text.toLowerCase();
    wanted = (t) => t.toLowerCase().includes(low);
  }
  functionFound = null;
  if (wanted) {
    functionFound = new Uint8Array(functionCount);
    for (let f = 0; f < frameCount; f++)
      if (wanted(frameFunction(f)) || wanted(frameFile(f)) || wanted(frameModule(f))) functionFound[functionOf[f]] = 1;
  }
}

/* ---- tooltip ---- */

function showTip(event, title, lines) {
  const tip = $("tip");
  tip.replaceChildren(make("b", title), ...lines.filter(Boolean).map((l) => make("div", l)));
  tip.hidden = false;
  const r = tip.getBoundingClientRect();
  tip.style.left = Math.max(4, Math.min(event.clientX + 14, innerWidth - r.width - 8)) + "px";
  tip.style.top = (event.clientY + 18 + r.height > innerHeight ? Math.max(4, event.clientY - r.height - 10)
                                                               : event.clientY + 18) + "px";
}
const hideTip = () => { $("tip").hidden = true; };

/* ---- head, notes, cards ---- */

function drawHead() {
  const name = baseName(D.executable || "program");
  document.title = name + " \u2014 mod-alloc";
  $("program").textContent = "Memory allocated by " + name;
  $("command").textContent = D.command;
  const when = D.start_ms ? new Date(D.start_ms).toISOString().replace("T", " ").slice(0, 19) + " UTC" : "";
  $("facts").textContent = [D.pid ? "process " + D.pid : "", when, "ran " + time(D.duration_ns),
    D.is_exact ? "every allocation recorded" : "one sample in about " + bytes(D.sample_bytes),
    "mod-alloc " + D.mod_alloc_version + (D.mimalloc_version ? " on mimalloc " + D.mimalloc_version : "")]
    .filter(Boolean).join(" \u00b7 ");
  for (const note of D.notes) $("notes").append(make("p", note.text, note.warn ? "warn" : ""));
}
function drawCards() {
  const t = D.totals, m = D.memory, list = [
    ["Allocated", bytes(t.total_bytes), count(t.alloc_count) + " allocations", exact(t.total_bytes) + " bytes in " + exact(t.alloc_count) + " allocations"],
    ["Peak", bytes(t.peak_bytes), count(t.peak_live_count) + " blocks" + (D.peak_ns ? ", at\u00a0" + time(D.peak_ns).replace(" ", "\u00a0") : ""), exact(t.peak_bytes) + " bytes in " + exact(t.peak_live_count) + " blocks"],
    ["Live at the end", bytes(t.current_bytes), count(t.live_count) + " blocks", exact(t.current_bytes) + " bytes in " + exact(t.live_count) + " blocks"],
    ["Mean block", bytes(t.alloc_count ? t.total_bytes / t.alloc_count : 0), count(t.free_count) + " frees", exact(t.free_count) + " frees"],
    ["Requested", bytes(t.requested_bytes), t.total_bytes >= t.requested_bytes ? percent(t.total_bytes - t.requested_bytes, t.requested_bytes) + " more in blocks" : "realloc counted whole", exact(t.requested_bytes) + " bytes asked for"],
    ["Call sites", count(S), D.samples ? count(D.samples) + " samples" : "", exact(S) + " sites from " + exact(D.samples) + " samples"],
    ["Threads", exact(D.threads), "", ""],
  ];
  if (m.resident_peak_bytes || m.resident_bytes)
    list.push(["Resident memory", bytes(m.resident_peak_bytes || m.resident_bytes), m.committed_bytes ? "highest; heap holds\u00a0" + bytes(m.committed_bytes).replace(" ", "\u00a0") : "highest", "profile itself: " + bytes(m.profile_bytes)]);
  for (const [name, big, small, title] of list) {
    const card = make("div", undefined, "card");
    card.append(make("h2", name), make("b", big), make("span", small || "\u00a0"));
    card.title = title;
    card.dataset.exact = title;
    $("cards").append(card);
  }
}

/* ---- plots ---- */

const SVG = "http://www.w3.org/2000/svg";
function svg(tag, attributes, text) {
  const e = document.createElementNS(SVG, tag);
  for (const k in attributes) e.setAttribute(k, attributes[k]);
  if (text !== undefined) e.textContent = text;
  return e;
}
/* Steps of 1, 2 or 4 x 2^10k for bytes, so that labels are round. */
function ticksTo(top, isBytes) {
  let step = 1;
  while (top / step > 4) step *= 2;
  if (!isBytes) {
    step = Math.pow(10, Math.floor(Math.log10(top / 4 || 1)));
    step *= top / step > 20 ? 10 : top / step > 8 ? 5 : top / step > 4 ? 2 : 1;
  }
  const out = [];
  for (let x = 0; x <= top * 1.0001; x += step) out.push(x);
  return out;
}
function plotFrame(box, top, isBytes, label) {
  const w = box.clientWidth, h = box.clientHeight, area = { l: 62, r: w - 12, t: 10, b: h - 22, w, h };
  const root = svg("svg", { viewBox: `0 0 ${w} ${h}`, role: "img", "aria-label": label });
  area.y = (v) => area.b - (area.b - area.t) * v / (top || 1);
  for (const v of ticksTo(top, isBytes)) {
    root.append(svg("line", { class: "grid", x1: area.l, x2: area.r, y1: area.y(v), y2: area.y(v) }),
      svg("text", { x: area.l - 6, y: area.y(v) + 4, "text-anchor": "end" }, (isBytes ? bytes(v) : count(v)).replace(/\.0+ /, " ")));
  }
  box.replaceChildren(root);
  return [root, area];
}
function drawTimeline() {
  const fig = $("timeline"), P = D.timeline, n = P.length / 4;
  if (n < 2) { fig.hidden = true; return; }
  const hasResident = P.some((_, i) => i % 4 === 3 && P[i] > 0);
  const caption = fig.querySelector("figcaption");
  caption.replaceChildren("Memory over time");
  const key = (colour, text) => {
    const k = make("span", undefined, "key"), i = make("i");
    i.style.background = colour;
    k.append(i, text);
    caption.append(k);
  };
  key("var(--used)", "live");
  if (hasResident) key("var(--resident)", "resident");
  let top = 1;
  for (let i = 0; i < n; i++) top = Math.max(top, P[4 * i + 1], P[4 * i + 3]);
  const end = P[4 * n - 4] || 1;
  const [root, a] = plotFrame(fig.querySelector(".plot"), top, true, "live and resident bytes over time");
  const x = (t) => a.l + (a.r - a.l) * t / end;
  let line = "", rss = "";
  for (let i = 0; i < n; i++) {
    line += `${i ? "L" : "M"}${x(P[4 * i]).toFixed(1)} ${a.y(P[4 * i + 1]).toFixed(1)}`;
    if (P[4 * i + 3] > 0) rss += `${rss ? "L" : "M"}${x(P[4 * i]).toFixed(1)} ${a.y(P[4 * i + 3]).toFixed(1)}`;
  }
  root.append(
    svg("path", { d: `${line}L${a.r} ${a.b}L${x(P[0]).toFixed(1)} ${a.b}Z`, fill: "var(--used)", "fill-opacity": 0.25 }),
    svg("path", { d: line, fill: "none", stroke: "var(--used)", "stroke-width": 1.6 }));
  if (rss) root.append(svg("path", { d: rss, fill: "none", stroke: "var(--resident)", "stroke-width": 1.6 }));
  for (let i = 0; i <= 4; i++)
    root.append(svg("text", { x: x(end * i / 4), y: a.h - 5, "text-anchor": i === 0 ? "start" : i === 4 ? "end" : "middle" },
      i === 0 ? "0" : time(end * i / 4)));
  const hair = svg("line", { class: "grid", y1: a.t, y2: a.b, visibility: "hidden" });
  root.append(hair);
  root.onmousemove = (e) => {
    const t = (e.clientX - root.getBoundingClientRect().left - a.l) / (a.r - a.l) * end;
    let i = 0;
    while (i + 1 < n && P[4 * i + 4] <= t) i++;
    hair.setAttribute("x1", x(P[4 * i]));
    hair.setAttribute("x2", x(P[4 * i]));
    hair.setAttribute("visibility", "visible");
    showTip(e, "at " + time(P[4 * i]), ["live: " + both(P[4 * i + 1], true), exact(P[4 * i + 2]) + " blocks",
      P[4 * i + 3] ? "resident: " + bytes(P[4 * i + 3]) : ""]);
  };
  root.onmouseleave = () => { hideTip(); hair.setAttribute("visibility", "hidden"); };
}
function drawSizes() {
  const fig = $("sizes"), H = D.sizes;
  let lo = H.findIndex((v) => v > 0), hi = H.length - 1;
  while (hi > lo && !(H[hi] > 0)) hi--;
  if (lo < 0) { fig.hidden = true; return; }
  const sum = H.reduce((p, q) => p + q, 0);
  const [root, a] = plotFrame(fig.querySelector(".plot"), Math.max(...H), false, "allocations by block size");
  const step = (a.r - a.l) / (hi - lo + 1), every = Math.max(1, Math.ceil(54 / step));
  for (let k = lo; k <= hi; k++) {
    const x = a.l + (k - lo) * step, y = a.y(H[k]);
    const bar = svg("rect", { x: x + 1, width: Math.max(1, step - 2), y: Math.min(y, a.b - (H[k] > 0 ? 1 : 0)),
      height: Math.max(a.b - y, H[k] > 0 ? 1 : 0), fill: "var(--used)", rx: 1.5 });
    const hit = svg("rect", { x, width: step, y: a.t, height: a.b - a.t, fill: "transparent" });
    const range = (k === 0 ? "1 B or less" : k === 1 ? "2 B" : bytes(2 ** (k - 1) + 1) + " to " + bytes(2 ** k));
    hit.onmousemove = (e) => showTip(e, range, [exact(H[k]) + " allocations", percent(H[k], sum)]);
    hit.onmouseleave = hideTip;
    root.append(bar, hit);
    if ((k - lo) % every === 0)
      root.append(svg("text", { x: x + step / 2, y: a.h - 5, "text-anchor": "middle" }, bytes(2 ** k).replace(/\.0+ /, " ")));
  }
}
function drawPlots() {
  drawTimeline();
  drawSizes();
  const hidden = ($("timeline").hidden ? 1 : 0) + ($("sizes").hidden ? 1 : 0);
  $("charts").classList.toggle("one", hidden === 1);
  $("charts").hidden = hidden === 2;
  if (hidden === 1 && !drawPlots.again) { drawPlots.again = true; drawPlots(); }
}

/* ---- the graph ---- */

const ROW = 19, VIEWS = [
  { key: "icicle", name: "Icicle", title: "outermost frame on top" },
  { key: "flame", name: "Flame", title: "outermost frame at the bottom" },
  { key: "callers", name: "By allocating function", title: "the frame that allocates on top, its callers below" },
];
let focus = 0, boxes = [], hover = -1, tree, weights, deepest = 0;
function graphTree() { return state.view === "callers" ? treeUp() : treeDown(); }

/* Which rows does the zoomed part need? Only boxes wide enough to be drawn count. */
function measureDepth() {
  const { sum, order } = weights, whole = sum[focus] || 1, width = $("flame").clientWidth;
  deepest = tree.depth[focus];
  const stack = [focus];
  while (stack.length) {
    const i = stack.pop();
    if (tree.depth[i] > deepest) deepest = tree.depth[i];
    for (let k = tree.first[i]; k < tree.first[i + 1]; k++) {
      const c = order[k];
      if (sum[c] / whole * width < 0.6) { /* the largest come first */
        if (tree.depth[i] === deepest && sum[c] / whole * width * (tree.first[i + 1] - k) >= 1) deepest++;
        break;
      }
      stack.push(c);
    }
  }
}
function layoutGraph(isNew) {
  tree = graphTree();
  weights = tree.weigh(value());
  if (focus >= tree.parent.length) focus = 0;
  measureDepth();
  const box = $("flame"), rows = deepest + 1;
  $("spacer").style.height = rows * ROW + "px";
  if (isNew) box.scrollTop = state.view === "flame" ? rows * ROW : Math.max(0, tree.depth[focus] - 2) * ROW;
  paintGraph();
  drawPath();
}
function paintGraph() {
  const box = $("flame"), canvas = $("canvas"), width = box.clientWidth, rows = deepest + 1;
  const height = Math.min(rows * ROW, box.clientHeight || rows * ROW), ratio = window.devicePixelRatio || 1;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    canvas.style.width = width + "px";
    canvas.style.height = height + "px";
  }
  const g = canvas.getContext("2d"), style = getComputedStyle(document.documentElement);
  const ink = style.getPropertyValue("--block-text"), found = style.getPropertyValue("--found");
  const text = style.getPropertyValue("--text");
  g.setTransform(ratio, 0, 0, ratio, 0, 0);
  g.clearRect(0, 0, width, height);
  g.font = '12px system-ui, "DejaVu Sans", sans-serif';
  g.textBaseline = "middle";
  const { sum, order } = weights, whole = sum[focus], top = box.scrollTop;
  boxes = [];
  if (!(whole > 0)) {
    g.fillStyle = text;
    g.fillText("Nothing to show for this value.", 8, ROW / 2);
    return;
  }
  const rowTop = (depth) => (state.view === "flame" ? rows - 1 - depth : depth) * ROW - top;
  const place = (i, x, w) => {
    const y = rowTop(tree.depth[i]);
    if (y > -ROW && y < height) boxes.push({ i, x, y, w });
  };
  for (let i = focus; ; i = tree.parent[i]) { place(i, 0, width); if (i === 0) break; }
  const stack = [[focus, 0]];
  while (stack.length) {
    let [i, x] = stack.pop();
    for (let k = tree.first[i]; k < tree.first[i + 1]; k++) {
      const c = order[k], w = sum[c] / whole * width;
      if (w < 0.6) { /* too narrow, all that follow too: one box for them */
        let rest = 0, n = 0;
        for (; k < tree.first[i + 1] && sum[order[k]] > 0; k++, n++) rest += sum[order[k]];
        const y = rowTop(tree.depth[i] + 1), restWidth = rest / whole * width;
        if (restWidth >= 1 && y > -ROW && y < height) boxes.push({ i: -1, x, y, w: restWidth, rest, n });
        break;
      }
      place(c, x, w);
      stack.push([c, x]);
      x += w;
    }
  }
  const letter = 6.1;
  for (const b of boxes) {
    if (b.i < 0) {
      g.fillStyle = style.getPropertyValue("--line");
      g.fillRect(b.x, b.y + ROW / 2 - 2, Math.max(1, b.w - 1), 3);
      continue;
    }
    const fn = tree.fn[b.i], w = Math.max(0.6, b.w - (b.w > 3 ? 1 : 0));
    const hit = functionFound && fn >= 0 && functionFound[fn];
    g.fillStyle = fn < 0 ? (isDark() ? "hsl(215 12% 46%)" : "hsl(215 18% 80%)")
      : hit ? found : fillOf(fn, functionFound !== null);
    g.fillRect(b.x, b.y, w, ROW - 1);
    if (b.i === hover) {
      g.strokeStyle = text;
      g.lineWidth = 1.5;
      g.strokeRect(b.x + 0.75, b.y + 0.75, Math.max(1, w - 1.5), ROW - 2.5);
    }
    if (b.w > 26) {
      let name = fn < 0 ? value().name + ": " + (value().isBytes ? bytes(sum[0]) : count(sum[0])) : fittingName(functionName(fn), (b.w - 8) / letter);
      if (name.length * 2 * letter > b.w - 8 && g.measureText(name).width > b.w - 8) {
        let n = Math.min(name.length - 1, Math.floor((b.w - 8) / letter));
        while (n < name.length - 1 && g.measureText(name.slice(0, n + 1) + "\u2026").width < b.w - 8) n++;
        while (n > 0 && g.measureText(name.slice(0, n) + "\u2026").width > b.w - 8) n--;
        name = n > 1 ? name.slice(0, n) + "\u2026" : "";
      }
      g.fillStyle = hit ? (isDark() ? "#14060f" : "#fff") : functionFound && isDark() ? "#d5dbe4" : ink;
      g.fillText(name, b.x + 4, b.y + ROW / 2);
    }
  }
}
function boxAt(event) {
  const r = $("canvas").getBoundingClientRect(), x = event.clientX - r.left, y = event.clientY - r.top;
  return boxes.find((b) => x >= b.x && x < b.x + Math.max(b.w, 1) && y >= b.y && y < b.y + ROW);
}
function zoomTo(i) {
  focus = i;
  hover = -1;
  hideTip();
  layoutGraph(true);
}
function drawPath() {
  const names = [];
  for (let i = focus; i > 0; i = tree.parent[i]) names.unshift(shortName(functionName(tree.fn[i])));
  $("path").textContent = names.length > 4 ? names[0] + " \u203a \u2026 \u203a " + names.slice(-2).join(" \u203a ")
                                           : names.join(" \u203a ");
  $("path").title = names.join(" \u203a ");
  $("unzoom").hidden = focus === 0;
}
function drawMatched() {
  if (!functionFound) { $("matched").textContent = $("search").validationMessage; return; }
  const { sum } = weights, n = tree.parent.length, inside = new Uint8Array(n);
  let part = 0;
  for (let i = 1; i < n; i++) {
    if (inside[tree.parent[i]]) { inside[i] = 1; continue; }
    if (functionFound[tree.fn[i]]) { inside[i] = 1; part += sum[i]; }
  }
  $("matched").textContent = (value().isBytes ? bytes(part) : count(part)) + (sum[0] > 0 ? ", " + percent(part, sum[0]) : "");
  $("matched").dataset.exact = part;
}
function drawLegend() {
  const shown = [...moduleHue].slice(0, HUES.length);
  $("legend").replaceChildren(...shown.map(([m, hue]) => {
    const e = make("span"), i = make("i");
    i.style.background = `hsl(${hue} ${isDark() ? 46 : 62}% ${isDark() ? 58 : 72}%)`;
    e.append(i, m ? baseName(m) : "unknown module");
    e.title = m;
    return e;
  }));
  if (moduleHue.size > HUES.length) {
    const e = make("span"), i = make("i");
    i.style.background = "hsl(215 10% 65%)";
    e.append(i, `${moduleHue.size - HUES.length} more`);
    $("legend").append(e);
  }
}

/* ---- the table ---- */

const LINE = 42;
const GROUPS = [{ key: "site", name: "Call sites" }, { key: "function", name: "Functions" },
  { key: "file", name: "Files" }, { key: "module", name: "Modules" }];
const SITE_COLUMNS = [
  { key: "allocated_bytes", name: "Allocated", show: bytes, share: true },
  { key: "allocated_count", name: "Allocations", show: count, share: true },
  { key: "mean", name: "Mean size", show: bytes, of: (i) => C.allocated_count[i] ? C.allocated_bytes[i] / C.allocated_count[i] : 0 },
  { key: "at_peak_bytes", name: "At peak", show: bytes, share: true },
  { key: "live_bytes", name: "Live", show: bytes, share: true },
  { key: "own_peak_bytes", name: "Own peak", show: bytes },
  { key: "waste_bytes", name: "Waste", title: "block sizes minus what was asked for", show: bytes },
  { key: "lifetime", name: "Mean life", show: (n) => n > 0 ? time(n) : "\u2013",
    of: (i) => C.lifetime_count[i] ? C.lifetime_ns[i] / C.lifetime_count[i] : 0 },
  { key: "short", name: "Short-lived", show: (n) => n > 0 ? (100 * n).toFixed(n < 0.1 ? 1 : 0) + "%" : "\u2013",
    of: (i) => C.allocated_count[i] ? Math.min(1, C.temporary_count[i] / C.allocated_count[i]) : 0 },
  { key: "remote", name: "Remote free", title: "freed by another thread", show: (n) => n > 0 ? count(n) : "\u2013", of: (i) => C.remote_free_count[i] },
];
const sumOf = (key) => { const v = VALUES.find((w) => w.key === key); return v ? v.sum : 0; };

function siteTitle(i) {
  const n = C.node[i];
  return n ? frameFunction(frame[n]) : D.stand_ins[C.is_overflow[i]];
}
function siteCallers(i) {
  const names = [];
  let n = C.node[i];
  if (!n) return "";
  for (n = parent[n]; n && names.length < 4; n = parent[n]) names.push(fittingName(frameFunction(frame[n]), 24));
  return framePlace(frame[C.node[i]]) + (names.length ? "  \u2190  " + names.join(" \u2190 ") : "");
}
/* Does a stack hold a frame that was searched for? Told once for each node, parents first. */
function nodesFound() {
  const found = new Uint8Array(N);
  for (let i = 1; i < N; i++) found[i] = found[parent[i]] || functionFound[functionOf[frame[i]]];
  return found;
}
function siteRows() {
  const found = functionFound ? nodesFound() : null, rows = [];
  for (let s = 0; s < S; s++) if (!found || found[C.node[s]]) rows.push(s);
  const column = SITE_COLUMNS.find((c) => c.key === state.sort.replace(/^-/, ""));
  let of = column ? (column.of || ((i) => C[column.key][i])) : ((i) => value().column[i]);
  if (state.sort.replace(/^-/, "") === "name") {
    const names = new Map(rows.map((i) => [i, siteTitle(i)]));
    rows.sort((a, b) => names.get(a) < names.get(b) ? -1 : names.get(a) > names.get(b) ? 1 : a - b);
  } else {
    const keys = Float64Array.from({ length: S }, (_, i) => of(i));
    rows.sort((a, b) => keys[b] - keys[a] || C.allocated_bytes[b] - C.allocated_bytes[a] || a - b);
  }
  if (state.sort.startsWith("-")) rows.reverse();
  return rows;
}
/* Own = the innermost frame is in it; total = it is anywhere on the stack, counted once a stack. */
const groupCache = new Map();
function groupRows() {
  const v = value(), cacheKey = state.group + " " + v.key;
  let rows = groupCache.get(cacheKey);
  if (!rows) {
    const names = [], ids = new Map(), groupOfFrame = new Int32Array(frameCount);
    for (let f = 0; f < frameCount; f++) {
      const key = state.group === "function" ? functionOf[f] : state.group === "file" ? D.frames[4 * f + 1] : D.frames[4 * f + 3];
      let id = ids.get(key);
      if (id === undefined) {
        ids.set(key, id = names.length);
        names.push(state.group === "function" ? [frameFunction(f), framePlace(f)]
          : state.group === "file" ? [baseName(frameFile(f)) || "(no file known)", frameFile(f)]
          : [baseName(frameModule(f)) || "(unknown module)", frameModule(f)]);
      }
      groupOfFrame[f] = id;
    }
    const sum = new Float64Array(N), own = new Float64Array(names.length), total = new Float64Array(names.length);
    for (let s = 0; s < S; s++) {
      sum[C.node[s]] += v.column[s];
      if (C.node[s]) own[groupOfFrame[frame[C.node[s]]]] += v.column[s];
    }
    for (let i = N - 1; i > 0; i--) sum[parent[i]] += sum[i];
    /* A node adds to its group unless one of its ancestors is of the same group. The nodes are walked in
     * depth-first order by child lists, with a count of open nodes for each group. */
    const firstChild = new Int32Array(N), next = new Int32Array(N), open = new Int32Array(names.length);
    for (let i = N - 1; i > 0; i--) { next[i] = firstChild[parent[i]]; firstChild[parent[i]] = i; }
    let i = firstChild[0];
    while (i) {
      const g = groupOfFrame[frame[i]];
      if (open[g]++ === 0) total[g] += sum[i];
      if (firstChild[i]) { i = firstChild[i]; continue; }
      while (i) {
        open[groupOfFrame[frame[i]]]--;
        if (next[i]) { i = next[i]; break; }
        i = parent[i];
      }
    }
    rows = names.map(([name, place], g) => ({ name, place, own: own[g], total: total[g], functions: new Set() }));
    for (let f = 0; f < frameCount; f++) rows[groupOfFrame[f]].functions.add(functionOf[f]);
    groupCache.set(cacheKey, rows);
  }
  /* A file or module is found where one of its functions is. */
  rows = rows.filter((r) => r.total > 0 && (!functionFound || [...r.functions].some((fn) => functionFound[fn])));
  const by = state.sort.replace(/^-/, "");
  rows.sort(by === "name" ? (a, b) => a.name < b.name ? -1 : a.name > b.name ? 1 : 0
    : by === "total" ? (a, b) => b.total - a.total || b.own - a.own : (a, b) => b.own - a.own || b.total - a.total);
  if (state.sort.startsWith("-")) rows.reverse();
  return rows;
}
let rows = [], columns = [], chosen = -1;
function layoutTable() {
  const v = value(), isSite = state.group === "site", show = v.isBytes ? bytes : count;
  rows = isSite ? siteRows() : groupRows();
  columns = isSite ? SITE_COLUMNS : [
    { key: "own", name: "Own", show, of: (r) => r.own, sum: v.sum, share: true },
    { key: "total", name: "With callees", show, of: (r) => r.total, sum: v.sum, share: true }];
  const grid = isSite ? `minmax(300px, 1fr) ${columns.map((c) => c.share ? "88px" : "80px").join(" ")}` : "minmax(300px, 1fr) 150px 150px";
  $("table").style.setProperty("--grid", grid);
  const active = state.sort.replace(/^-/, "") || (isSite ? v.key : "own");
  $("thead").style.gridTemplateColumns = grid;
  $("thead").replaceChildren(...[{ key: "name", name: isSite ? "Call site \u2190 callers" : "Name" }, ...columns].map((c) => {
    const b = make("button", c.name);
    b.type = "button";
    if (c.title) b.title = c.title;
    if (c.key === active) {
      b.setAttribute("aria-sort", state.sort.startsWith("-") ? "ascending" : "descending");
      b.textContent += state.sort.startsWith("-") !== (c.key === "name") ? " \u25b4" : " \u25be";
    }
    b.onclick = () => {
      state.sort = active === c.key && !state.sort.startsWith("-") ? "-" + c.key : c.key;
      remember();
      layoutTable();
    };
    return b;
  }));
  const what = GROUPS.find((g) => g.key === state.group).name.toLowerCase();
  $("rowcount").textContent = `${exact(rows.length)} ${what}` + (functionFound ? " found" : "") +
    (isSite ? "" : ", by " + v.name.toLowerCase());
  $("tbody").style.height = rows.length * LINE + "px";
  const need = Math.min(560, (rows.length || 1) * LINE + 42);
  $("table").style.height = need + "px";
  $("table").scrollTop = 0;
  paintTable();
}
function paintTable() {
  const box = $("table"), from = Math.max(0, Math.floor(box.scrollTop / LINE) - 4);
  const to = Math.min(rows.length, from + Math.ceil(box.clientHeight / LINE) + 9), out = [];
  const grid = box.style.getPropertyValue("--grid"), isSite = state.group === "site";
  for (let n = from; n < to; n++) {
    const r = rows[n], line = make("div", undefined, "row" + (isSite && r === chosen ? " chosen" : ""));
    line.style.top = n * LINE + "px";
    line.style.gridTemplateColumns = grid;
    line.setAttribute("role", "row");
    const name = make("div", fittingName(isSite ? siteTitle(r) : r.name, 44));
    name.append(make("small", (isSite ? siteCallers(r) : r.place) || "\u00a0"));
    name.title = isSite ? siteTitle(r) : r.place || r.name;
    line.append(name);
    for (const c of columns) {
      const x = c.of ? c.of(r) : C[c.key][r], whole = c.sum !== undefined ? c.sum : sumOf(c.key);
      const cell = make("div", c.show(x));
      if (c.share && whole > 0) {
        cell.className = "share";
        cell.append(make("small", percent(x, whole)));
        const bar = make("i");
        bar.style.width = Math.min(100, 100 * x / whole) + "%";
        cell.append(bar);
      }
      cell.title = c.name + ": " + (c.show === bytes || c.show === count ? exact(x) : c.show(x));
      line.append(cell);
    }
    line.onclick = () => isSite ? openDrawer(r) : searchFor(r.name);
    out.push(line);
  }
  $("tbody").replaceChildren(...out);
}
function searchFor(text) {
  $("search").value = text;
  setSearch(text);
  refresh(false);
}

/* ---- one site ---- */

function openDrawer(i) {
  chosen = i;
  state.site = String(i);
  remember();
  const box = $("drawer"), close = make("button", "Close", "close");
  close.type = "button";
  close.onclick = closeDrawer;
  const table = make("table");
  const line = (name, text) => {
    const tr = make("tr");
    tr.append(make("td", name), make("td", text));
    table.append(tr);
  };
  line("Allocated", both(C.allocated_bytes[i], true) + ", " + percent(C.allocated_bytes[i], VALUES[0].sum));
  if (!D.is_exact && C.allocated_error[i] > 0) line("Standard error of that", "\u00b1 " + bytes(C.allocated_error[i]));
  line("Allocations", exact(C.allocated_count[i]) + (D.is_exact ? "" : " estimated from " + exact(C.samples[i]) + (C.samples[i] === 1 ? " sample" : " samples")));
  line("Requested", both(C.requested_bytes[i], true));
  line("Live at the heap\u2019s peak", both(C.at_peak_bytes[i], true) + " in " + blocks(C.at_peak_count[i]));
  line("Live at the end", both(C.live_bytes[i], true) + " in " + blocks(C.live_count[i]));
  line("The site\u2019s own peak", both(C.own_peak_bytes[i], true) + " in " + blocks(C.own_peak_count[i]));
  if (C.lifetime_count[i]) {
    line("Mean life of a block", time(C.lifetime_ns[i] / C.lifetime_count[i]));
    line("Shortest and longest life", time(C.lifetime_min_ns[i]) + " to " + time(C.lifetime_max_ns[i]));
  }
  line("Short-lived blocks", exact(C.temporary_count[i]));
  line("Freed by another thread", exact(C.remote_free_count[i]));
  if (D.walk_ends[C.walk_end[i]]) line("Stack", D.walk_ends[C.walk_end[i]]);
  const list = make("ol");
  for (let n = C.node[i]; n; n = parent[n]) {
    const li = make("li"), f = frame[n], hit = functionFound && functionFound[functionOf[f]];
    li.append(make(hit ? "mark" : "span", frameFunction(f)));
    const file = frameFile(f), line_ = frameLine(f);
    li.append(make("small", [file ? file + (line_ ? ":" + line_ : "") : "", frameModule(f)].filter(Boolean).join("  \u00b7  ")));
    list.append(li);
  }
  const zoom = make("button", "Show in the graph");
  zoom.type = "button";
  zoom.onclick = () => { closeDrawer(); zoomTo(tree.site[i]); $("graph").scrollIntoView({ block: "nearest" }); };
  box.replaceChildren(close, make("h2", siteTitle(i)), table, zoom, make("h3", "Call stack, innermost first"), list);
  box.hidden = false;
  box.scrollTop = 0;
  paintTable();
  close.focus({ preventScroll: true });
}
function closeDrawer() {
  $("drawer").hidden = true;
  chosen = -1;
  state.site = "";
  remember();
  paintTable();
}

/* ---- controls ---- */

function refresh(isNew) {
  remember();
  for (const b of $("views").children) b.setAttribute("aria-pressed", String(b.dataset.key === state.view));
  for (const b of $("groups").children) b.setAttribute("aria-pressed", String(b.dataset.key === state.group));
  layoutGraph(isNew);
  drawMatched();
  layoutTable();
}
function switchOf(id, list, key, onChange) {
  for (const item of list) {
    const b = make("button", item.name);
    b.type = "button";
    b.dataset.key = item.key;
    if (item.title) b.title = item.title;
    b.onclick = () => { state[key] = item.key; onChange(); };
    $(id).append(b);
  }
}
function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  $("theme").textContent = theme === "dark" ? "Light" : "Dark";
  drawLegend();
}
function start() {
  if (!GROUPS.some((g) => g.key === state.group)) state.group = "site";
  if (!VIEWS.some((v) => v.key === state.view)) state.view = "icicle";
  setTheme(state.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light"));
  $("theme").onclick = () => { setTheme(state.theme = isDark() ? "light" : "dark"); remember(); paintGraph(); };
  drawHead();
  drawCards();
  drawPlots();
  for (const v of VALUES) {
    const o = make("option", v.name);
    o.value = v.key;
    o.disabled = !(v.sum > 0);
    $("value").append(o);
  }
  $("value").value = state.value;
  $("value").onchange = () => { state.value = $("value").value; state.sort = ""; refresh(false); };
  switchOf("views", VIEWS, "view", () => { focus = 0; refresh(true); });
  switchOf("groups", GROUPS, "group", () => { state.sort = ""; refresh(false); });
  $("search").value = state.search;
  setSearch(state.search);
  let timer = 0;
  $("search").oninput = () => {
    clearTimeout(timer);
    timer = setTimeout(() => { setSearch($("search").value); refresh(false); }, S > 5000 ? 250 : 80);
  };
  const flame = $("flame");
  flame.setAttribute("aria-label", "call stacks by value; the table below holds the same figures");
  flame.onscroll = paintGraph;
  flame.onmousemove = (e) => {
    const b = boxAt(e), was = hover;
    hover = b ? b.i : -1;
    if (hover !== was) paintGraph();
    if (!b) { hideTip(); return; }
    const v = value();
    if (b.i < 0) {
      showTip(e, exact(b.n) + " smaller ones", [v.name + ": " + both(b.rest, v.isBytes), "zoom in to see them"]);
      return;
    }
    const x = weights.sum[b.i], fn = tree.fn[b.i];
    showTip(e, fn < 0 ? "All" : functionName(fn), [v.name + ": " + both(x, v.isBytes),
      percent(x, weights.sum[0]) + " of all" + (focus ? ", " + percent(x, weights.sum[focus]) + " of the part shown" : ""),
      fn < 0 ? "" : functionModule(fn)]);
  };
  flame.onmouseleave = () => { hover = -1; hideTip(); paintGraph(); };
  flame.onclick = (e) => { const b = boxAt(e); if (b && b.i >= 0) zoomTo(b.i); };
  $("unzoom").onclick = () => zoomTo(0);
  $("table").onscroll = paintTable;
  addEventListener("resize", () => { drawPlots(); layoutGraph(false); paintTable(); });
  addEventListener("keydown", (e) => {
    if (e.key === "/" && document.activeElement !== $("search")) { e.preventDefault(); $("search").focus(); }
    if (e.key === "Escape") {
      if (!$("drawer").hidden) closeDrawer();
      else if ($("search").value) searchFor("");
      else if (focus) zoomTo(0);
    }
  });
  refresh(true);
  if (state.site !== "" && Number(state.site) < S) openDrawer(Number(state.site));
  document.documentElement.dataset.ready = Math.round(performance.now()); /* ms; for tests */
}
start();
