// The page's script, in five parts: the document, how it is shown, the people,
// words for endings, and the connection. The document is Yjs's: every page can
// edit it at any time, and pages that have the same edits show the same text.
import * as Y from "./vendor/yjs.js";

const $ = (id) => document.getElementById(id);

const TEXT_MAX = 100_000;     // characters; the server has its own bound
const FLUSH_MS = 60;          // what is typed within goes as one update
const HERE_MS = 80;           // a moving cursor is told of so often
const HERE_AGAIN_MS = 8000;   // and a resting one so often; the server forgets us after 25 s
const KEEP_MS = 400;          // the document is put by for a reload so often
const FRESH_MS = 2400;        // somebody else's words are tinted so long
const FLAG_MS = 4000;         // and the name at a resting cursor is shown so long
const TIMELINE_MAX = 20;      // disconnections listed
const BACK_SHOWN_MS = 12_000; // how long the page tells that it is back

// ---- The document ----------------------------------------------------------

// What must survive a reload stays in this tab's storage; a browser that
// refuses it has a board that forgets.
const store = {
  get(key) { try { return sessionStorage.getItem(`board.${key}`); } catch { return null; } },
  set(key, value) { try { sessionStorage.setItem(`board.${key}`, value); } catch { /* forgets */ } },
};

const doc = new Y.Doc();
const shared = doc.getText("text");
const undo = new Y.UndoManager(shared, { trackedOrigins: new Set(["here"]), captureTimeout: 400 });

let queued = [];  // updates made here since the last flush
let flying = 0;   // sent, and not known to be kept
let offlineEdits = 0; // made while there was no connection; the next one takes them all along

doc.on("update", (update, origin) => {
  keepSoon();
  if (origin === "away") return;
  if (linkOpen()) {
    queued.push(update);
    flushSoon();
  } else {
    offlineEdits++;
  }
  showSaved();
});

let flushTimer = 0;
function flushSoon() { flushTimer ||= setTimeout(flush, FLUSH_MS); }
function flush() {
  clearTimeout(flushTimer);
  flushTimer = 0;
  if (!queued.length || !linkOpen()) return;
  transmit("u", queued.length === 1 ? queued[0] : Y.mergeUpdates(queued));
  flying++;
  queued = [];
}

// apply takes what came from elsewhere. What is no update is dropped: anybody
// may send anything.
function apply(update) {
  try {
    Y.applyUpdate(doc, update, "away");
  } catch (e) {
    console.warn("an update that is none", e);
  }
}

// completes sends what somebody else lacks, given all that they have. So a page
// brings back what it wrote while it was away, and the whole document to an
// instance that knows nothing.
function completes(updates) {
  const theirs = new Y.Doc();
  for (const u of updates) {
    try { Y.applyUpdate(theirs, u); } catch { /* dropped, as above */ }
  }
  const lacking = Y.encodeStateAsUpdate(doc, Y.encodeStateVector(theirs));
  const differs = Y.decodeUpdate(lacking).structs.length > 0 || theirs.getText("text").toString() !== shared.toString();
  theirs.destroy();
  if (differs && doc.store.clients.size > 0) {
    transmit("u", lacking);
    flying++;
  }
}

let keepTimer = 0;
function keepSoon() { keepTimer ||= setTimeout(keep, KEEP_MS); }
function keep() {
  clearTimeout(keepTimer);
  keepTimer = 0;
  store.set("doc", toBase64(Y.encodeStateAsUpdate(doc)));
}
addEventListener("pagehide", () => { flush(); keep(); });

function toBase64(bytes) {
  let s = "";
  for (let i = 0; i < bytes.length; i += 0x8000) s += String.fromCharCode(...bytes.subarray(i, i + 0x8000));
  return btoa(s);
}
function fromBase64(s) { return Uint8Array.from(atob(s), (c) => c.charCodeAt(0)); }

// ---- How it is shown -------------------------------------------------------

const text = $("text");
let shown = "";       // what the textarea showed when it and the document agreed
let composing = false; // an input method is at work: the textarea is its own
let waiting = [];     // updates that came meanwhile
let fresh = [];       // {from, to, hue, until}: what others wrote just now

text.addEventListener("input", () => { if (!composing) typed(); });
text.addEventListener("compositionstart", () => { composing = true; });
text.addEventListener("compositionend", () => {
  composing = false;
  typed();
  waiting.splice(0).forEach(apply);
});

// typed tells the document what changed in the textarea: the part between the
// common beginning and the common end.
function typed() {
  const now = text.value;
  if (now === shown) return;
  const end = text.selectionEnd; // what was typed ends at the cursor
  let tail = 0;
  const tailMax = Math.min(now.length - end, shown.length);
  while (tail < tailMax && now[now.length - 1 - tail] === shown[shown.length - 1 - tail]) tail++;
  let head = 0;
  const headMax = Math.min(now.length, shown.length) - tail;
  while (head < headMax && now[head] === shown[head]) head++;
  // A character of two halves stays whole.
  if (head > 0 && isLowHalf(now[head]) | isLowHalf(shown[head])) head--;
  if (tail > 0 && isLowHalf(now[now.length - tail])) tail--;
  const removed = shown.length - head - tail;
  const added = now.slice(head, now.length - tail);
  doc.transact(() => {
    if (removed > 0) shared.delete(head, removed);
    if (added) shared.insert(head, added);
  }, "here");
}
function isLowHalf(c) { return c >= "\uDC00" && c <= "\uDFFF"; }

shared.observe((event, transaction) => {
  const before = shown;
  shown = shared.toString();
  if (event.delta.some((d) => d.insert !== undefined && typeof d.insert !== "string")) {
    queueMicrotask(dropStrangeThings); // pictures and the like: our text has none
  }
  if (text.value !== shown) { // it came from elsewhere, or from undo
    let { selectionStart: from, selectionEnd: to, selectionDirection: direction } = text;
    if (text.value !== before) from = to = Math.min(from, shown.length); // cannot be told
    [from, to] = [moved(event.delta, from), moved(event.delta, to)];
    text.value = shown;
    text.setSelectionRange(from, to, direction);
  }
  let at = 0;
  fresh = fresh.map((f) => ({ ...f, from: moved(event.delta, f.from), to: moved(event.delta, f.to) }));
  for (const d of event.delta) {
    if (d.retain) at += d.retain;
    else if (typeof d.insert === "string") {
      if (transaction.origin === "away" && welcomedOnce) fresh.push({ from: at, to: at + d.insert.length, hue: hueOf(transaction), until: Date.now() + FRESH_MS });
      at += d.insert.length;
    }
  }
  drawSoon();
});

// moved is where a place in the text is after a change.
function moved(delta, place) {
  let at = 0;
  for (const d of delta) {
    if (at > place) break;
    if (d.retain) at += d.retain;
    else if (d.insert !== undefined) {
      const n = typeof d.insert === "string" ? d.insert.length : 1;
      if (at < place) place += n; // at the place itself: the words go behind the cursor
      at += n;
    } else if (d.delete) place = Math.max(at, place - d.delete);
  }
  return place;
}

function dropStrangeThings() {
  let at = 0;
  for (const d of shared.toDelta()) {
    if (typeof d.insert === "string") at += d.insert.length;
    else doc.transact(() => shared.delete(at, 1));
  }
}

// hueOf is the colour of who made a change, as far as that can be told.
function hueOf(transaction) {
  for (const [client, clock] of transaction.afterState) {
    if ((transaction.beforeState.get(client) || 0) === clock) continue;
    for (const p of others.values()) if (clientOf(p) === client) return p.hue;
  }
  return 250;
}
function clientOf(p) { return p.client ??= p.head ? place(p.head)?.client : undefined; }

text.addEventListener("beforeinput", (e) => {
  if (e.inputType === "historyUndo" || e.inputType === "historyRedo") {
    e.preventDefault();
    e.inputType === "historyUndo" ? undo.undo() : undo.redo();
  }
});
text.addEventListener("keydown", (e) => {
  if (!(e.ctrlKey || e.metaKey) || e.altKey) return;
  const key = e.key.toLowerCase();
  if (key === "z") { e.preventDefault(); e.shiftKey ? undo.redo() : undo.undo(); }
  if (key === "y") { e.preventDefault(); undo.redo(); }
});

// Enter goes on with a list; at an empty item it ends the list.
text.addEventListener("keydown", (e) => {
  if (e.key !== "Enter" || e.shiftKey || e.isComposing || text.selectionStart !== text.selectionEnd) return;
  const at = text.selectionStart;
  const start = shown.lastIndexOf("\n", at - 1) + 1;
  const item = /^(\s*[-*] (?:\[[ x]\] )?)(.*)$/.exec(shown.slice(start, at));
  if (!item) return;
  e.preventDefault();
  if (item[2]) text.setRangeText(`\n${item[1].replace("[x]", "[ ]")}`, at, at, "end");
  else text.setRangeText("", start, at, "end");
  typed();
});

// A click into the box of a line ticks it.
text.addEventListener("click", () => {
  const at = text.selectionStart;
  if (at !== text.selectionEnd) return;
  const start = shown.lastIndexOf("\n", at - 1) + 1;
  const box = /^(\s*[-*] \[)([ x])\]/.exec(shown.slice(start, start + 60));
  if (!box || at < start + box[1].length || at > start + box[1].length + 1) return;
  const mark = start + box[1].length;
  text.setRangeText(box[2] === "x" ? " " : "x", mark, mark + 1, "end");
  typed();
});
$("scroll").addEventListener("click", (e) => { if (e.target === $("scroll")) text.focus(); });

// The mirror: one block for each line, its text in spans of one look each. The
// looks come from three sources (the line's own marks, what is fresh, where
// others are), so their boundaries are put into one list.
let drawing = 0;
function drawSoon() { drawing ||= requestAnimationFrame(draw); }
function draw() {
  drawing = 0;
  const now = Date.now();
  fresh = fresh.filter((f) => f.until > now && f.to > f.from);
  const marks = [...fresh.map((f) => ({ ...f, look: "new" }))];
  const carets = [];
  for (const p of others.values()) {
    if (!p.head) continue;
    const head = absolute(p.head), anchor = absolute(p.anchor);
    if (head === null || anchor === null) continue;
    if (head !== anchor) marks.push({ from: Math.min(head, anchor), to: Math.max(head, anchor), hue: p.hue, look: "sel" });
    carets.push({ at: head, ...p });
  }
  carets.sort((a, b) => a.at - b.at);
  const lines = [];
  let at = 0;
  for (const line of shown.split("\n")) {
    lines.push(drawLine(line, at, marks, carets, now));
    at += line.length + 1;
  }
  $("mirror").replaceChildren(...lines);
  for (const c of $("mirror").querySelectorAll(".caret")) { // the flag stays on the paper
    c.classList.toggle("left", c.offsetLeft > $("mirror").clientWidth - 150);
    c.classList.toggle("low", c.offsetTop < 30);
  }
  $("size").textContent = `${shown.trim() ? shown.trim().split(/\s+/).length : 0} words`;
}

function drawLine(line, start, marks, carets, now) {
  const block = document.createElement("div");
  const end = start + line.length;
  const looks = looksOf(line).map((l) => ({ ...l, from: l.from + start, to: l.to + start }));
  for (const m of marks) if (m.from < end && m.to > start) looks.push(m);
  const here = carets.filter((c) => c.at >= start && c.at <= end);
  const cuts = new Set([start, end]);
  for (const l of looks) { cuts.add(Math.max(start, l.from)); cuts.add(Math.min(end, l.to)); }
  for (const c of here) cuts.add(c.at);
  const order = [...cuts].sort((a, b) => a - b);
  order.forEach((cut, i) => {
    for (const c of here) if (c.at === cut) block.append(drawCaret(c));
    const next = order[i + 1];
    if (next === undefined) return;
    const piece = line.slice(cut - start, next - start);
    const over = looks.filter((l) => l.from <= cut && l.to >= next);
    if (!over.length) { block.append(piece); return; }
    const span = document.createElement("span");
    span.textContent = piece;
    for (const l of over) {
      span.classList.add(l.look);
      if (l.hue !== undefined) span.style.setProperty("--hue", l.hue);
      if (l.look === "new") span.style.animationDelay = `${l.until - FRESH_MS - now}ms`; // goes on where it was
    }
    block.append(span);
  });
  return block;
}

function drawCaret(c) {
  const el = document.createElement("span");
  el.className = "caret";
  el.dataset.me = c.me;
  el.classList.toggle("resting", Date.now() - c.moved > FLAG_MS);
  el.style.setProperty("--hue", c.hue);
  const flag = document.createElement("b");
  flag.textContent = c.name;
  el.append(flag);
  return el;
}

// looksOf is the little that we know of Markdown.
function looksOf(line) {
  const looks = [];
  const title = /^#{1,6} /.exec(line);
  if (title) return [{ from: 0, to: line.length, look: "title" }, { from: 0, to: title[0].length, look: "mark" }];
  const item = /^(\s*)([-*])( \[[ x]\])?( |$)/.exec(line);
  if (item) {
    const bullet = item[1].length;
    looks.push({ from: bullet, to: bullet + 1, look: "bullet" });
    if (item[3]) {
      looks.push({ from: bullet, to: bullet + 1, look: "task" }, { from: bullet + 2, to: bullet + 5, look: "box" });
      if (item[3] === " [x]") looks.push({ from: bullet + 2, to: bullet + 5, look: "ticked" });
      if (item[3] === " [x]") looks.push({ from: item[0].length, to: line.length, look: "done" });
    }
  }
  for (const m of line.matchAll(/\*\*[^*]+\*\*/g)) looks.push({ from: m.index, to: m.index + m[0].length, look: "strong" });
  for (const m of line.matchAll(/`[^`]+`/g)) looks.push({ from: m.index, to: m.index + m[0].length, look: "code" });
  return looks;
}

function showSaved() {
  const n = flying + queued.length + offlineEdits;
  const el = $("saved");
  el.dataset.waiting = n;
  const peers = Number($("peers").textContent) || 0;
  el.textContent = n === 0 ? (linkOpen() ? peers ? `Kept on ${peers + 1} instances` : "Kept on this instance" : "Nothing waits")
    : linkOpen() ? "Saving" : n === 1 ? "1 edit waits in this page" : `${n} edits wait in this page`;
}

// ---- The people ------------------------------------------------------------

// A cursor is told of as Yjs's relative position: it stays with its letter.
function place(encoded) {
  try { return Y.decodeRelativePosition(fromBase64(encoded)).item; } catch { return null; }
}
function absolute(encoded) {
  try {
    const found = Y.createAbsolutePositionFromRelativePosition(Y.decodeRelativePosition(fromBase64(encoded)), doc);
    return found && found.type === shared ? found.index : null;
  } catch { return null; }
}
function relative(index) {
  return toBase64(Y.encodeRelativePosition(Y.createRelativePositionFromTypeIndex(shared, index, -1)));
}

function randomWord() { // crypto.randomUUID would need a secure context
  return Array.from(crypto.getRandomValues(new Uint8Array(8)), (b) => b.toString(16).padStart(2, "0")).join("");
}
const ADJECTIVES = ["Amber", "Brisk", "Calm", "Dapper", "Eager", "Fond", "Gentle", "Hazel", "Indigo", "Jolly", "Keen", "Lucid"];
const ANIMALS = ["Otter", "Puffin", "Seal", "Heron", "Limpet", "Tern", "Urchin", "Whelk", "Plover", "Crab", "Eider", "Gannet"];
const HUES = [2, 18, 28, 140, 165, 185, 205, 228, 280, 310, 335]; // on which white letters can be read
function pick(list) { return list[Math.floor(Math.random() * list.length)]; }

const me = { me: store.get("me") || randomWord(), hue: Number(store.get("hue") ?? pick(HUES)) };
store.set("me", me.me);
store.set("hue", me.hue);
$("name").value = store.get("name") || `${pick(ADJECTIVES)} ${pick(ANIMALS)}`;
store.set("name", $("name").value);
const others = new Map(); // me → presence, and since when its cursor rests: moved
let people = 1;

function seen(p) {
  if (p.me === me.me) return;
  const was = others.get(p.me);
  const rests = was && was.head === p.head && was.anchor === p.anchor;
  others.set(p.me, { ...p, moved: rests ? was.moved : Date.now() });
  if (!rests) setTimeout(drawSoon, FLAG_MS + 50);
}

function hello() {
  const focused = document.activeElement === text;
  return JSON.stringify({
    type: "here", ...me, name: $("name").value.trim() || store.get("name"),
    ...(focused && { anchor: relative(text.selectionDirection === "backward" ? text.selectionEnd : text.selectionStart), head: relative(text.selectionDirection === "backward" ? text.selectionStart : text.selectionEnd) }),
  });
}
let hereTimer = 0;
let hereLast = "";
function hereSoon() { hereTimer ||= setTimeout(sayHere, HERE_MS); }
function sayHere(again) {
  clearTimeout(hereTimer);
  hereTimer = 0;
  flush(); // where the cursor is, is a place in what was typed
  const now = hello();
  if (!linkOpen() || now === hereLast && !again) return;
  hereLast = now;
  socket.send(now);
}
setInterval(() => sayHere(true), HERE_AGAIN_MS);
document.addEventListener("selectionchange", hereSoon);
text.addEventListener("blur", hereSoon);
text.addEventListener("focus", hereSoon);
$("name").addEventListener("keydown", (e) => { if (e.key === "Enter") $("name").blur(); });
$("name").addEventListener("change", () => {
  if (!$("name").value.trim()) $("name").value = store.get("name") || "Somebody";
  store.set("name", $("name").value);
  sayHere(true);
  showPeople();
});

function showPeople() {
  const all = [{ ...me, name: $("name").value, own: true }, ...[...others.values()].sort((a, b) => a.name.localeCompare(b.name))];
  people = Math.max(people, all.length);
  $("people").textContent = people;
  const items = all.slice(0, 30).map((p) => {
    const li = element("li", "");
    li.dataset.me = p.me;
    li.style.setProperty("--hue", p.hue);
    li.append(element("span", "", p.name));
    if (p.own) li.append(element("small", "", "you"));
    return li;
  });
  if (people > items.length) items.push(element("li", "", `and ${people - items.length} more`));
  $("names").replaceChildren(...items);
  $("faces").replaceChildren(...all.slice(0, 5).map((p) => {
    const li = element("li", "", [...p.name][0]?.toUpperCase() ?? "?");
    li.style.setProperty("--hue", p.hue);
    return li;
  }));
}

function element(tag, className, words) {
  const el = document.createElement(tag);
  if (className) el.className = className;
  if (words !== undefined) el.textContent = words; // never HTML: it came from strangers
  return el;
}

// ---- Words for endings -----------------------------------------------------

// The reason of a Close frame is one word: the cause, as the logs have it.
const REASONS = {
  "deployed": "Another version took over",
  "scaled-down": "Fewer instances are needed now",
  "aged": "The instance was replaced after its long service",
  "unhealthy": "The instance failed its health checks",
  "crashed": "The instance crashed",
  "requested": "An operator stopped the instance",
  "rebalanced": "A fresh instance takes a share",
  "deadline": "The connection reached its longest time",
  "shutting-down": "The server is shutting down",
  "stopping": "The instance is stopping",
  "too-slow": "This page could not keep up",
  "too-fast": "This page sent too much at once",
  "full": "Too many people are on this instance",
  "document-full": "The document is full: delete something, and your edits fit",
  "offline": "This page works offline",
};
const CODES = {
  1001: "The server went away",
  1006: "The connection was lost without a goodbye",
  1008: "The server refused what this page said",
  1009: "A message was too big for the server",
  1011: "The server had an error",
  1012: "The service is restarting",
  1013: "The server is busy",
};
const FAULTS = new Set(["crashed", "unhealthy", "document-full"]);

function words(code, reason) { return REASONS[reason] || CODES[code] || (reason ? `The connection ended: ${reason}` : "The connection ended"); }
function isFault(code, reason) { return FAULTS.has(reason) || (!REASONS[reason] && (code === 1006 || code === 1011)); }
function seconds(ms) { return ms < 59_500 ? `${(ms / 1000).toFixed(1)} s` : `${Math.round(ms / 60_000)} min`; }
function clock(date, withSeconds) { return date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: withSeconds ? "2-digit" : undefined }); }

let outage = null; // {at, code, reason, item} from the loss of a connection until it is back
let backTimer = 0;

function showStatus(state) {
  $("status").dataset.state = state;
  $("status").textContent = { open: "Connected", connecting: outage ? "Reconnecting" : "Connecting", closed: navigator.onLine ? "Disconnected" : "Offline", paused: "Offline" }[state];
  showSaved();
}

function showWhy(words, state, code, reason) {
  clearTimeout(backTimer);
  const el = $("why");
  el.textContent = words;
  el.hidden = false;
  Object.assign(el.dataset, { state, code, reason, kind: isFault(code, reason) ? "fault" : "plan" });
  if (state === "back") backTimer = setTimeout(() => { el.hidden = true; }, BACK_SHOWN_MS);
}

// disconnected is called once for each outage, however many attempts follow.
function disconnected(code, reason) {
  outage = { at: Date.now(), code, reason };
  showWhy(`${words(code, reason)}${reason === "offline" ? "" : ` (${code})`}. ${reason === "offline" ? "What you write waits here." : "Reconnecting; keep writing."}`, "lost", code, reason);
  $("never").hidden = true;
  const li = element("li", isFault(code, reason) ? "fault" : "");
  li.dataset.code = code;
  li.dataset.reason = reason;
  li.append(element("b", "", words(code, reason)),
    element("span", "", `${clock(new Date(), true)}${reason === "offline" ? "" : ` · code ${code}${reason ? ` · ${reason}` : ""}`}`),
    element("span", "", "not back yet"));
  $("timeline").prepend(li);
  while ($("timeline").children.length > TIMELINE_MAX) $("timeline").lastChild.remove();
  outage.item = li;
}

function reconnected() {
  const { at, code, reason, item } = outage;
  outage = null;
  const took = Date.now() - at;
  showWhy(`${words(code, reason)}. Back after ${seconds(took)} on instance ${$("instance").textContent}, with all that was written.`, "back", code, reason);
  item.dataset.seconds = (took / 1000).toFixed(3);
  item.lastChild.textContent = `back after ${seconds(took)} on instance ${$("instance").textContent}`;
}

$("more").addEventListener("click", () => {
  const open = document.body.classList.toggle("side");
  $("more").setAttribute("aria-expanded", open);
  $("more").textContent = open ? "Close" : "Details";
});

// ---- The connection --------------------------------------------------------

const FIRST_TRY_MS = 250;      // an instance's successor is often there already
const LAST_TRY_MS = 1500;      // with its jitter below two seconds
const FULL_TRY_MS = 10_000;    // a full document stays full for a while
const CONNECT_MS = 8000;       // an attempt may wait for an instance to be ready
const SILENCE_MS = 25_000;     // the server says something every ten seconds
const STEADY_MS = 5000;        // a connection that lasted so long was a success

let socket = null;
let whole = 0; // when this socket had brought the document, 0 before
let attempts = 0;
let retryTimer = 0;
let watch = 0;
let welcomedOnce = false;

function linkOpen() { return socket !== null && whole > 0; }

function transmit(kind, bytes) {
  const out = new Uint8Array(bytes.length + 1);
  out[0] = kind.charCodeAt(0);
  out.set(bytes, 1);
  socket.send(out);
}

function heard(data) {
  if (typeof data !== "string") return heardBytes(new Uint8Array(data));
  const f = JSON.parse(data);
  switch (f.type) {
    case "welcome":
      $("instance").textContent = $("instance-long").textContent = f.instance;
      $("instance").title = f.instance;
      $("instance").parentElement.hidden = false;
      $("service").textContent = f.service;
      $("version").textContent = f.version;
      $("since").textContent = clock(new Date(f.since));
      $("peers").textContent = f.peers;
      others.clear();
      (f.here || []).forEach(seen);
      people = f.people;
      showPeople();
      break;
    case "here":
      f.here.forEach(seen);
      people = f.people;
      showPeople();
      drawSoon();
      break;
    case "gone":
      others.delete(f.me);
      people = f.people || 0;
      showPeople();
      drawSoon();
      break;
    case "kept":
      flying = Math.max(0, flying - 1);
      showSaved();
      break;
    case "fold": // one update instead of many; whatever came before is in it
      if (composing) waiting.splice(0).forEach(apply);
      transmit("f", Y.encodeStateAsUpdate(doc));
      break;
    case "tick":
      $("peers").textContent = f.peers;
      showSaved();
      break;
  }
}

function heardBytes(bytes) {
  const kind = String.fromCharCode(bytes[0]);
  if (kind === "u") {
    const update = bytes.slice(1);
    composing ? waiting.push(update) : apply(update);
  } else if (kind === "f") {
    completes([bytes.slice(1)]);
  } else if (kind === "l") {
    const updates = split(bytes);
    if (updates.length) doc.transact(() => updates.forEach(apply), "away");
    whole = Date.now();
    flying = offlineEdits = 0;
    queued = [];
    completes(updates);
    text.readOnly = false;
    welcomedOnce = true;
    if (outage) reconnected();
    else $("why").hidden = true;
    showStatus("open");
    sayHere(true);
  }
}

// split undoes the server's record.whole: each update behind its length.
function split(bytes) {
  const updates = [];
  for (let at = 1; at < bytes.length;) {
    let length = 0;
    for (let shift = 0; ; shift += 7) {
      const b = bytes[at++];
      length += (b & 127) * 2 ** shift;
      if (b < 128) break;
    }
    updates.push(bytes.slice(at, at += length));
  }
  return updates;
}

function connect() {
  clearTimeout(retryTimer);
  if (socket || $("offline").checked) return;
  showStatus("connecting");
  const s = new WebSocket(location.origin.replace(/^http/, "ws") + document.body.dataset.socket);
  s.binaryType = "arraybuffer";
  socket = s;
  whole = 0;
  expect(CONNECT_MS);
  s.onopen = () => s.send(hereLast = hello());
  s.onmessage = (e) => { expect(SILENCE_MS); heard(e.data); };
  s.onclose = (e) => lost(s, e.code, e.reason);
}

// expect ends a connection that is silent for too long: a network that went
// away does not say so.
function expect(ms) {
  clearTimeout(watch);
  watch = setTimeout(() => lost(socket, 1006, ""), ms);
}

function lost(s, code, reason) {
  if (s !== socket || s === null) return;
  clearTimeout(watch);
  s.onopen = s.onmessage = s.onclose = null;
  s.close(); // does nothing to one that is closed
  const wasWhole = whole > 0;
  if (wasWhole && Date.now() - whole > STEADY_MS) attempts = 0;
  offlineEdits += flying + (queued.length > 0); // the next connection shows whether they arrived
  flying = 0;
  queued = [];
  socket = null;
  whole = 0;
  others.clear();
  people = 1;
  showPeople();
  drawSoon();
  if (wasWhole && !outage) disconnected(code, reason);
  if (!wasWhole && !outage && !welcomedOnce) showWhy("The board cannot be reached yet. Trying again.", "lost", code, reason);
  showStatus(reason === "offline" ? "paused" : "closed");
  if (reason === "offline") return;
  // Doubling, and each waits differently: many pages lose the same instance at
  // the same moment.
  const base = reason === "document-full" ? FULL_TRY_MS : Math.min(LAST_TRY_MS, FIRST_TRY_MS * 2 ** attempts++);
  retryTimer = setTimeout(connect, base * (0.7 + 0.6 * Math.random()));
}

$("offline").addEventListener("change", () => {
  if (!$("offline").checked) { connect(); return; }
  clearTimeout(retryTimer);
  if (socket) { flush(); lost(socket, 1000, "offline"); }
  else showStatus("paused");
});

// The browser knows when trying is worth while.
addEventListener("online", connect);
addEventListener("offline", () => { if (!socket) showStatus("closed"); }); // an open one may be on this machine and live on
addEventListener("pageshow", connect);
document.addEventListener("visibilitychange", () => { if (!document.hidden) connect(); });

const before = store.get("doc");
if (before) {
  try { apply(fromBase64(before)); } catch { /* was none */ }
  text.readOnly = shown === "";
}
text.maxLength = TEXT_MAX;
$("offline").checked = false; // a browser may restore it
showPeople();
draw();
connect();
