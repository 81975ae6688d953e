"use strict";

// The page's script, in four parts: who this is, the notifications, sending, and
// the connection.

const $ = (id) => document.getElementById(id);

const NOTES_MAX = 200;        // shown
const TIMELINE_MAX = 20;      // disconnections listed
const BACK_SHOWN_MS = 30_000; // how long the page tells that it is back

// What must survive a reload stays in the browser's storage; one that refuses
// it has a page that forgets.
const store = {
  get(key) { try { return localStorage.getItem(key) ?? ""; } catch { return ""; } },
  set(key, value) { try { localStorage.setItem(key, value); } catch { /* forgets */ } },
};

function element(tag, className, text) {
  const el = document.createElement(tag);
  if (className) el.className = className;
  if (text !== undefined) el.textContent = text; // never HTML: it came from strangers
  return el;
}

function randomWord() { // crypto.randomUUID would need a secure context
  return Array.from(crypto.getRandomValues(new Uint8Array(8)), (b) => b.toString(16).padStart(2, "0")).join("");
}

// ---- Who this is -----------------------------------------------------------

const PEOPLE = ["ada", "bob", "cat", "dan", "eve", "finn"];

function userFromAddress() {
  try { return decodeURIComponent(location.hash.slice(1)).trim().toLowerCase(); } catch { return ""; }
}
let user = userFromAddress() || store.get("user") || PEOPLE[Math.floor(Math.random() * PEOPLE.length)];
store.set("user", user);
history.replaceState(null, "", `#${encodeURIComponent(user)}`);
addEventListener("hashchange", () => {
  store.set("user", userFromAddress());
  location.reload();
});
$("user").textContent = user;
$("to").value = user;
paint($("face"), user);

// paint gives a name its round face.
function paint(face, name) {
  let hue = 7;
  for (const c of name) hue = (hue * 31 + c.codePointAt(0)) % 360;
  face.textContent = [...name][0]?.toUpperCase() ?? "?";
  face.style.setProperty("--hue", hue);
}

// ---- The notifications -----------------------------------------------------

const shown = new Map(); // id → element

// received shows a note once, however often it comes, and says whether it is new.
function received(note, missed) {
  const before = shown.get(note.id);
  if (before) {
    if (note.read) before.dataset.read = true;
    return false;
  }
  const el = element("li", "note");
  el.dataset.id = note.id;
  el.dataset.at = note.at;
  el.dataset.read = !!note.read;
  el.dataset.missed = missed;
  const face = element("span", "face");
  face.setAttribute("aria-hidden", "true");
  paint(face, note.by);
  const by = element("p", "by");
  const time = element("time", "", new Date(note.at).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" }));
  time.dateTime = note.at;
  by.append(element("b", "", note.by), time);
  if (missed) by.append(element("span", "missed", "while you were away"));
  const body = element("div", "body");
  body.append(by, element("p", "words", note.text));
  const read = element("button", "read", "Mark as read");
  read.type = "button";
  read.addEventListener("click", () => markRead([note.id]));
  el.append(face, body, read);
  shown.set(note.id, el);
  const older = [...$("notes").children].find((other) => other.dataset.at <= note.at);
  $("notes").insertBefore(el, older ?? null);
  while ($("notes").children.length > NOTES_MAX) {
    shown.delete($("notes").lastChild.dataset.id);
    $("notes").lastChild.remove();
  }
  return true;
}

function wasRead(ids) {
  for (const id of ids) if (shown.has(id)) shown.get(id).dataset.read = true;
  countUnread();
}

// markRead tells the server, which tells every device, this one too.
function markRead(ids) {
  transmit({ type: "read", ids });
}

function unread() {
  return [...$("notes").children].filter((el) => el.dataset.read === "false");
}

function countUnread() {
  const n = unread().length;
  $("unread").textContent = n;
  $("unread").hidden = $("all").hidden = n === 0;
  $("empty").hidden = shown.size > 0;
  document.title = n ? `(${n}) Notifications` : "Notifications";
}

const READ_MAX = 50; // the server takes so many at once
$("all").addEventListener("click", () => {
  const ids = unread().map((el) => el.dataset.id);
  for (let i = 0; i < ids.length; i += READ_MAX) markRead(ids.slice(i, i + READ_MAX));
});

// ---- Sending ---------------------------------------------------------------

const TRIES = 8;           // of one notification, with its one id
const BETWEEN_TRIES_MS = 400;

$("form").addEventListener("submit", async (e) => {
  e.preventDefault();
  const note = { id: randomWord(), to: $("to").value, by: user, text: $("text").value };
  $("text").value = "";
  outcome("waiting", "Sending");
  for (let i = 1; ; i++) {
    try {
      const answer = await fetch("notify", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(note), signal: AbortSignal.timeout(5000) });
      if (answer.ok) return outcome("sent", `Sent to ${note.to}`);
      if (answer.status < 500) return outcome("refused", `Not sent: ${await answer.text()}`);
    } catch { /* no answer: again, to whichever instance is there */ }
    if (i === TRIES) break;
    await new Promise((resolve) => setTimeout(resolve, BETWEEN_TRIES_MS * i));
  }
  $("text").value ||= note.text;
  outcome("refused", "Not sent: nobody answers. Try again later.");
});

$("text").addEventListener("keydown", (e) => {
  if (e.key === "Enter" && !e.shiftKey && !e.isComposing) {
    e.preventDefault();
    $("form").requestSubmit();
  }
});

function outcome(state, text) {
  $("sent").dataset.state = state;
  $("sent").textContent = text;
}

// ---- The connection --------------------------------------------------------

const FIRST_TRY_MS = 250;  // an instance's successor is often there already
const LAST_TRY_MS = 1500;  // with its jitter below two seconds
const SILENCE_MS = 25_000; // the server says something every ten seconds

// The reason of a Close frame is one word: the cause, as the logs have it.
const REASONS = {
  "deployed": "Another version took over",
  "scaled-down": "Fewer instances are needed now",
  "aged": "The instance was replaced after its long service",
  "unhealthy": "The instance failed its health checks",
  "crashed": "The instance crashed",
  "lost": "The connection to the instance broke",
  "requested": "An operator stopped the instance",
  "rebalanced": "Another instance carries less",
  "deadline": "The connection reached its longest time",
  "shutting-down": "The server is shutting down",
  "stopping": "The instance is stopping",
  "too-slow": "This device could not keep up",
  "full": "The server is full",
};

let socket = null;
let welcomed = false;
let attempts = 0;
let retryTimer = 0, watch = 0, backTimer = 0;
let instance = "";
let outage = null; // {at, from, text, item} from the loss of a connection until it is back

function transmit(frame) {
  if (socket && welcomed) socket.send(JSON.stringify(frame));
}

function connect() {
  clearTimeout(retryTimer);
  if (socket) return;
  showStatus("connecting");
  const s = socket = new WebSocket(`${location.origin.replace(/^http/, "ws")}/ws`);
  welcomed = false;
  expect();
  s.onopen = () => s.send(JSON.stringify({ type: "hello", user }));
  s.onmessage = (e) => { expect(); heard(JSON.parse(e.data)); };
  s.onclose = (e) => lost(s, e.code, e.reason);
}

function heard(f) {
  switch (f.type) {
    case "welcome":
      welcomed = true;
      attempts = 0;
      showInstance(f);
      // What is kept and not shown yet came while this device was away.
      const missed = f.notes.filter((note) => received(note, instance !== "" && !!outage)).length;
      if (outage) back(missed);
      instance = f.instance;
      showStatus("open");
      break;
    case "note":
      received(f.note, false);
      break;
    case "read":
      wasRead(f.ids);
      break;
  }
  countUnread();
}

// expect ends a connection that is silent for too long: a network that went
// away does not say so.
function expect() {
  clearTimeout(watch);
  watch = setTimeout(() => lost(socket, 1006, ""), SILENCE_MS);
}

function lost(s, code, reason) {
  if (s !== socket || s === null) return;
  clearTimeout(watch);
  s.onopen = s.onmessage = s.onclose = null;
  s.close(); // does nothing to one that is closed
  socket = null;
  if (welcomed && !outage) away(code, reason);
  welcomed = false;
  showStatus("closed");
  // Doubling, and each waits differently: many devices lose the same instance at
  // the same moment.
  const base = Math.min(LAST_TRY_MS, FIRST_TRY_MS * 2 ** attempts++);
  retryTimer = setTimeout(connect, base * (0.7 + 0.6 * Math.random()));
}

function away(code, reason) {
  const text = REASONS[reason] ?? (code === 1006 ? "The connection was lost without a goodbye" : "The connection ended");
  const item = element("li");
  Object.assign(item.dataset, { code, reason, from: instance });
  item.append(element("b", "", text), element("span", "", `${new Date().toLocaleTimeString()} · code ${code}${reason ? ` · ${reason}` : ""}`), element("span", "", "not back yet"));
  $("timeline").prepend(item);
  while ($("timeline").children.length > TIMELINE_MAX) $("timeline").lastChild.remove();
  $("never").hidden = true;
  outage = { at: Date.now(), from: instance, text, item };
  showWhy(`${text} (${code}). Reconnecting.`, "lost");
}

function back(missed) {
  const { at, from, text, item } = outage;
  outage = null;
  const seconds = (Date.now() - at) / 1000;
  const place = $("instance").dataset.instance === from ? "the same instance" : `instance ${$("instance").dataset.instance}`;
  const came = missed === 1 ? "1 notification came meanwhile" : `${missed || "no"} notifications came meanwhile`;
  Object.assign(item.dataset, { to: $("instance").dataset.instance, seconds: seconds.toFixed(3), missed });
  item.lastChild.textContent = `back after ${seconds.toFixed(1)} s on ${place}, ${came}`;
  showWhy(`${text}. Back after ${seconds.toFixed(1)} s, ${came}.`, "back");
}

function showStatus(state) {
  $("status").dataset.state = state;
  $("status").textContent = { open: "Connected", connecting: outage ? "Reconnecting" : "Connecting", closed: navigator.onLine ? "Disconnected" : "Offline" }[state];
}

function showInstance(w) {
  $("instance").textContent = $("instance-long").textContent = $("instance").dataset.instance = w.instance;
  $("instance").parentElement.hidden = false;
  $("version").textContent = w.version;
  $("since").textContent = new Date(w.since).toLocaleTimeString();
}

function showWhy(text, state) {
  clearTimeout(backTimer);
  $("why").textContent = text;
  $("why").dataset.state = state;
  $("why").hidden = false;
  if (state === "back") backTimer = setTimeout(() => { $("why").hidden = true; }, BACK_SHOWN_MS);
}

// The browser knows when trying is worth while.
addEventListener("online", connect);
addEventListener("pageshow", connect);
document.addEventListener("visibilitychange", () => { if (!document.hidden) connect(); });
countUnread();
connect();
