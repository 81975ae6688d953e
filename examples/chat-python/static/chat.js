"use strict";

// The page's script, in four parts: words for endings, the page, the messages,
// and the connection. Only the last part knows how frames travel.

const $ = (id) => document.getElementById(id);

const HISTORY_MAX = 500; // messages kept in the page
const OUTBOX_MAX = 50;   // messages waiting for a connection
const TIMELINE_MAX = 20; // disconnections listed
const BACK_SHOWN_MS = 30_000; // how long the page tells that it is back

// ---- Words for endings -----------------------------------------------------

// The reason of a Close frame is one word: the cause, as the logs have it.
const REASONS = {
  "deployed": "Another version took over",
  "scaled-down": "Fewer instances are needed now",
  "aged": "The instance was replaced after its long service",
  "unhealthy": "The instance failed its health checks",
  "crashed": "The instance crashed",
  "lost": "The connection to the instance broke",
  "requested": "An operator stopped the instance",
  "slow-start": "The instance took too long to start",
  "deadline": "The connection reached its longest time",
  "shutting-down": "The server is shutting down",
  "stopping": "The instance is stopping",
  "too-slow": "This page could not keep up",
  "full": "The chat is full",
};

// The code speaks when the reason does not.
const CODES = {
  1000: "The server closed the connection",
  1001: "The server went away",
  1005: "The server closed the connection without saying why",
  1006: "The connection was lost without a goodbye",
  1008: "The server refused what this page said",
  1009: "A message was too big for the server",
  1011: "The server had an error",
  1012: "The service is restarting",
  1013: "The server is busy",
};

const FAULTS = new Set(["crashed", "lost", "unhealthy", "slow-start"]);

function words(code, reason) {
  return REASONS[reason] || CODES[code] || (reason ? `The connection ended: ${reason}` : "The connection ended");
}

function isFault(code, reason) {
  return FAULTS.has(reason) || (!REASONS[reason] && (code === 1006 || code === 1011));
}

function seconds(ms) {
  return ms < 9950 ? `${(ms / 1000).toFixed(1)} s` : span(ms);
}

function span(ms) {
  const s = Math.max(0, Math.round(ms / 1000));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86400)} days`;
}

function clock(date, withSeconds) {
  return date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: withSeconds ? "2-digit" : undefined });
}

// ---- The page --------------------------------------------------------------

const served = { instance: "", since: null, connected: null };
let outage = null; // {at, code, reason, from, item} from the loss of a connection until it is back
let backTimer = 0;

function showStatus(state) {
  const text = { open: "Connected", connecting: outage ? "Reconnecting" : "Connecting", closed: navigator.onLine ? "Disconnected" : "Offline" };
  const el = $("status");
  if (el.dataset.state !== state || el.textContent !== text[state]) {
    el.dataset.state = state;
    el.textContent = text[state];
  }
}

function showInstance(w) {
  served.instance = w.instance;
  served.since = new Date(w.since);
  served.connected = new Date();
  $("instance").textContent = w.instance;
  $("instance").title = w.instance;
  $("instance").dataset.instance = w.instance;
  $("instance").parentElement.hidden = false;
  $("instance-long").textContent = w.instance;
  $("service").textContent = w.service;
  $("version").textContent = w.version;
  showTimes();
}

function showTimes() {
  if (served.since) $("since").textContent = `${clock(served.since)} (${span(Date.now() - served.since)} ago)`;
  if (served.connected) $("connected").textContent = outage ? "no" : `for ${span(Date.now() - served.connected)}`;
}

function showPeople(names, count) {
  $("people").textContent = count;
  const more = count - names.length;
  const items = more > 0 ? [...names, `and ${more} more`] : names;
  $("names").replaceChildren(...items.map((n) => element("li", "", n)));
}

function showWhy(text, state, code, reason) {
  const el = $("why");
  clearTimeout(backTimer);
  el.textContent = text;
  el.hidden = false;
  el.dataset.state = state;
  el.dataset.code = code;
  el.dataset.reason = reason;
  el.dataset.kind = isFault(code, reason) ? "fault" : "plan";
  if (state === "back") backTimer = setTimeout(() => { el.hidden = true; }, BACK_SHOWN_MS);
}

// disconnected is called once for each outage, however many attempts follow.
function disconnected(code, reason) {
  outage = { at: Date.now(), code, reason, from: served.instance };
  showTimes();
  showWhy(`${words(code, reason)} (${code}). Reconnecting.`, "lost", code, reason);

  $("never").hidden = true;
  const li = element("li", isFault(code, reason) ? "fault" : "");
  li.dataset.code = code;
  li.dataset.reason = reason;
  li.dataset.from = served.instance;
  li.append(element("b", "", words(code, reason)),
    element("span", "", `${clock(new Date(), true)} · code ${code}${reason ? ` · ${reason}` : ""}`),
    element("span", "", "not back yet"));
  $("timeline").prepend(li);
  while ($("timeline").children.length > TIMELINE_MAX) $("timeline").lastChild.remove();
  outage.item = li;
}

function reconnected() {
  const { at, code, reason, from, item } = outage;
  outage = null;
  const took = Date.now() - at;
  const place = served.instance === from ? "the same instance" : `instance ${served.instance}`;
  showWhy(`${words(code, reason)} (${code}). Back after ${seconds(took)} on ${place}.`, "back", code, reason);
  item.dataset.to = served.instance;
  item.dataset.seconds = (took / 1000).toFixed(3);
  item.lastChild.textContent = `back after ${seconds(took)} on ${place}`;
  const seam = element("li", isFault(code, reason) ? "seam fault" : "seam", `${words(code, reason)}, back after ${seconds(took)}`);
  keepingPlace(() => $("log").insertBefore(seam, firstPending()));
}

function element(tag, className, text) {
  const el = document.createElement(tag);
  if (className) el.className = className;
  if (text !== undefined) el.textContent = text; // never HTML: it came from strangers
  return el;
}

$("more").addEventListener("click", () => {
  const open = document.body.classList.toggle("side");
  $("more").setAttribute("aria-expanded", open);
  $("more").textContent = open ? "Close" : "Details";
});
setInterval(showTimes, 5000);

// ---- Messages --------------------------------------------------------------

// What must survive a reload stays in this tab's storage; a browser that
// refuses it has a chat that forgets.
const store = {
  get(key, otherwise) {
    try { return JSON.parse(sessionStorage.getItem(key)) ?? otherwise; } catch { return otherwise; }
  },
  set(key, value) {
    try { sessionStorage.setItem(key, JSON.stringify(value)); } catch { /* forgets */ }
  },
};

function randomWord() { // crypto.randomUUID would need a secure context
  return Array.from(crypto.getRandomValues(new Uint8Array(8)), (b) => b.toString(16).padStart(2, "0")).join("");
}

const me = store.get("me", "") || randomWord();
store.set("me", me);

// A message waits in the outbox until the server has shown it to us. It is sent
// again on every new connection; its id makes it the same message to everybody.
let outbox = store.get("outbox", []);
const shown = new Map(); // id → element

function say(text) {
  text = text.trim();
  if (!text) return true;
  if (outbox.length >= OUTBOX_MAX) {
    $("waiting").textContent = `${outbox.length} messages wait, no more fit`;
    return false;
  }
  const m = { id: `${me}.${randomWord()}`, text };
  outbox.push(m);
  keepOutbox();
  const el = draw({ ...m, name: $("name").value, at: new Date().toISOString() }, "pending");
  keepingPlace(() => { $("log").append(el); group(el); }, true);
  transmit({ type: "say", ...m });
  return true;
}

function keepOutbox() {
  store.set("outbox", outbox);
  const n = outbox.length;
  $("waiting").textContent = n && !linkOpen() ? n === 1 ? "1 message waits" : `${n} messages wait` : "";
}

function firstPending() {
  return $("log").querySelector(".message[data-state=pending]");
}

// received shows m once, however often it comes.
function received(m) {
  const sent = outbox.findIndex((o) => o.id === m.id);
  if (sent >= 0) {
    outbox.splice(sent, 1);
    keepOutbox();
  }
  const before = shown.get(m.id);
  if (before && before.dataset.state === "sent") return;
  const el = draw(m, "sent");
  keepingPlace(() => {
    if (before) {
      const after = before.nextElementSibling;
      before.remove();
      if (after) group(after);
    }
    $("log").insertBefore(el, firstPending());
    group(el);
    if (el.nextElementSibling) group(el.nextElementSibling);
    for (const old of [...$("log").children].slice(0, -HISTORY_MAX)) {
      shown.delete(old.dataset.id);
      old.remove();
    }
  });
}

function refused(id, why) {
  outbox = outbox.filter((m) => m.id !== id);
  keepOutbox();
  const el = shown.get(id);
  if (el) el.append(element("p", "note", `Not sent: ${why}`));
}

function draw(m, state) {
  const mine = m.id.startsWith(`${me}.`);
  const at = new Date(m.at);
  const el = element("li", "message");
  el.dataset.id = m.id;
  el.dataset.mine = mine;
  el.dataset.state = state;
  el.dataset.from = `${m.id.split(".")[0]} ${m.name}`; // two may have one name
  const face = element("span", "face", [...m.name][0]?.toUpperCase() ?? "?");
  face.setAttribute("aria-hidden", "true");
  face.style.setProperty("--hue", hue(m.name));
  const by = element("p", "by");
  const time = element("time", "", clock(at));
  time.dateTime = m.at;
  by.append(element("b", "", m.name), time);
  el.append(face, by, element("p", "words", m.text));
  shown.set(m.id, el);
  return el;
}

// group hides the name of a message that follows one of the same person.
function group(el) {
  const before = el.previousElementSibling;
  el.classList.toggle("next", !!before && el.classList.contains("message") && before.classList.contains("message") && before.dataset.from === el.dataset.from);
}

function hue(name) {
  let h = 7;
  for (const c of name) h = (h * 31 + c.codePointAt(0)) % 360;
  return h;
}

// keepingPlace changes the log; whoever reads its end stays at its end.
function keepingPlace(change, follow) {
  const log = $("log");
  const atEnd = follow || log.scrollHeight - log.scrollTop - log.clientHeight < 60;
  change();
  $("empty").hidden = log.children.length > 0;
  if (atEnd) log.scrollTop = log.scrollHeight;
  else $("latest").hidden = false;
}
$("log").addEventListener("scroll", () => {
  const log = $("log");
  if (log.scrollHeight - log.scrollTop - log.clientHeight < 60) $("latest").hidden = true;
});
$("latest").addEventListener("click", () => { $("log").scrollTop = $("log").scrollHeight; $("text").focus(); });

const text = $("text");
function grow() {
  text.style.height = "auto";
  text.style.height = `${text.scrollHeight}px`;
}
text.value = store.get("draft", "");
text.addEventListener("input", () => { store.set("draft", text.value); grow(); });
text.addEventListener("keydown", (e) => {
  if (e.key === "Enter" && !e.shiftKey && !e.isComposing) {
    e.preventDefault();
    $("form").requestSubmit();
  }
});
$("form").addEventListener("submit", (e) => {
  e.preventDefault();
  if (document.activeElement === $("name")) { $("name").blur(); text.focus(); return; } // Enter there means: done with the name
  if (!say(text.value)) return;
  text.value = "";
  store.set("draft", "");
  grow();
  text.focus();
});

const ADJECTIVES = ["Amber", "Brisk", "Calm", "Dapper", "Eager", "Fond", "Gentle", "Hazel", "Indigo", "Jolly", "Keen", "Lucid"];
const ANIMALS = ["Otter", "Puffin", "Seal", "Heron", "Limpet", "Tern", "Urchin", "Whelk", "Plover", "Crab", "Eider", "Gannet"];
function pick(list) { return list[Math.floor(Math.random() * list.length)]; }
$("name").value = store.get("name", "") || `${pick(ADJECTIVES)} ${pick(ANIMALS)}`;
store.set("name", $("name").value);
$("name").addEventListener("change", () => {
  if (!$("name").value.trim()) $("name").value = store.get("name", "") || "Somebody";
  store.set("name", $("name").value);
  transmit({ type: "name", name: $("name").value });
});
function takeName() { // also while it is still being typed
  return $("name").value.trim() || store.get("name", "");
}

// What the server says.
function heard(f) {
  switch (f.type) {
    case "welcome":
      showInstance(f);
      if (outage) reconnected();
      else $("why").hidden = true;
      $("log").setAttribute("aria-busy", "true"); // history is not news to a screen reader
      (f.history || []).forEach(received);
      $("log").removeAttribute("aria-busy");
      showPeople(f.names || [], f.count || 0);
      showStatus("open");
      showTimes();
      outbox.forEach((m) => transmit({ type: "say", ...m }));
      keepOutbox();
      break;
    case "message":
      received(f.message);
      break;
    case "people":
      showPeople(f.names || [], f.count || 0);
      break;
    case "refused":
      refused(f.id, f.why);
      break;
  }
}

// ---- The connection --------------------------------------------------------

const FIRST_TRY_MS = 250;  // an instance's successor is often there already
const LAST_TRY_MS = 1500;  // with its jitter below two seconds
const CONNECT_MS = 8000;   // an attempt may wait for an instance to be ready
const SILENCE_MS = 25_000; // the server says something every ten seconds
const STEADY_MS = 5000;    // a connection that lasted so long was a success

let socket = null;
let welcomed = 0; // when this socket was, 0 before
let attempts = 0;
let retryTimer = 0;
let watch = 0;

function linkOpen() { return socket !== null && welcomed > 0; }

function transmit(frame) {
  if (linkOpen()) socket.send(JSON.stringify(frame));
}

function connect() {
  clearTimeout(retryTimer);
  if (socket) return;
  showStatus("connecting");
  const s = new WebSocket(location.origin.replace(/^http/, "ws") + document.body.dataset.socket);
  socket = s;
  welcomed = 0;
  expect(CONNECT_MS);
  s.onopen = () => s.send(JSON.stringify({ type: "hello", name: takeName() }));
  s.onmessage = (e) => {
    expect(SILENCE_MS);
    const f = JSON.parse(e.data);
    if (f.type === "welcome") {
      welcomed = Date.now();
      $("transport").textContent = "WebSocket";
    }
    heard(f);
  };
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
  const wasOpen = welcomed > 0;
  if (wasOpen && Date.now() - welcomed > STEADY_MS) attempts = 0;
  socket = null;
  welcomed = 0;
  if (wasOpen && !outage) disconnected(code, reason);
  if (!wasOpen && !outage && !served.instance) showWhy("The chat cannot be reached yet. Trying again.", "lost", code, reason);
  if (code === 1009 && outbox.length) refused(outbox[0].id, "it is too big"); // else it would come back for ever
  keepOutbox();
  showStatus("closed");
  // Doubling, and each waits differently: many pages lose the same instance at
  // the same moment.
  const base = Math.min(LAST_TRY_MS, FIRST_TRY_MS * 2 ** attempts++);
  retryTimer = setTimeout(connect, base * (0.7 + 0.6 * Math.random()));
}

// The browser knows when trying is worth while.
addEventListener("online", connect);
addEventListener("offline", () => { if (!socket) showStatus("closed"); }); // an open one may be on this machine and live on
addEventListener("pageshow", connect);
document.addEventListener("visibilitychange", () => { if (!document.hidden) connect(); });

for (const m of outbox) {
  const el = draw({ ...m, name: $("name").value, at: new Date().toISOString() }, "pending");
  $("log").append(el);
  group(el);
}
$("empty").hidden = outbox.length > 0;
grow();
connect();
