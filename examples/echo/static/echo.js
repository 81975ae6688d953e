"use strict";

const $ = (id) => document.getElementById(id);
const LINES_MAX = 8;   // kept in an output that goes on
const AT_ONCE = 20;    // requests of a spread under way together
const ANSWER_MS = 10_000; // for an answer that should come at once: a hung instance gives none

function show(card, text, bad) {
  const out = document.querySelector(`[data-out=${card}]`);
  out.textContent = text;
  out.toggleAttribute("data-bad", !!bad);
}

const lines = {};
function add(card, text) {
  lines[card] = [text, ...(lines[card] || [])].slice(0, LINES_MAX);
  show(card, lines[card].join("\n"));
}

async function ask(path, options) {
  const start = performance.now();
  const res = await fetch(path, options);
  const text = (await res.text()).trim();
  return { ok: res.ok, status: res.status, text, ms: performance.now() - start, instance: res.headers.get("Echo-Instance") };
}

// asRequest writes what /headers answers as the request would look on the wire.
function asRequest(text) {
  const r = JSON.parse(text);
  return [`${r.method} ${r.url} ${r.proto} from ${r.remote_addr}`, `Host: ${r.host}`, ...r.headers.map(([name, value]) => `${name}: ${value}`)].join("\n");
}

async function askInto(card, path, options) {
  show(card, "…");
  try {
    const a = await ask(path, options);
    show(card, `${a.status} after ${a.ms.toFixed(0)} ms${a.instance ? ` from ${a.instance}` : ""}\n${path === "/headers" && a.ok ? asRequest(a.text) : a.text}`, !a.ok);
  } catch (err) {
    show(card, `No answer: ${err.message}`, true);
  }
}

// ---- Spread ----------------------------------------------------------------

async function spread(n) {
  const counts = new Map();
  let left = n, slowest = 0;
  const one = async () => {
    while (left-- > 0) {
      let who;
      try {
        const a = await ask("/", { headers: { Accept: "text/plain" }, signal: AbortSignal.timeout(ANSWER_MS) });
        slowest = Math.max(slowest, a.ms);
        who = a.ok ? a.text : `failed: ${a.status}`;
      } catch {
        who = "failed: no answer";
      }
      counts.set(who, (counts.get(who) || 0) + 1);
      drawSpread(counts, n);
    }
  };
  await Promise.all(Array.from({ length: Math.min(AT_ONCE, n) }, one));
}

function drawSpread(counts, n) {
  $("spread").replaceChildren(...[...counts].sort().map(([who, count]) => {
    const bar = document.createElement("div");
    bar.className = who.startsWith("failed") ? "bar failed" : "bar";
    bar.dataset.instance = who;
    bar.dataset.count = count;
    const share = `${(100 * count / n).toFixed(1)}%`;
    const [name, fill, text] = ["b", "i", "span"].map((t) => document.createElement(t));
    name.textContent = name.title = who;
    fill.style.setProperty("--share", share);
    text.textContent = `${count} (${share})`;
    bar.append(name, fill, text);
    return bar;
  }));
}

// ---- WebSocket -------------------------------------------------------------

let socket = null;
const sent = []; // when, of what has not come back

function setState(id, state) {
  $(id).dataset.state = state;
  $(id).textContent = state;
}

function openSocket() {
  if (socket) return socket;
  setState("ws", "connecting");
  $("ws-ending").textContent = "";
  const s = socket = new WebSocket(location.origin.replace(/^http/, "ws") + "/ws");
  s.binaryType = "arraybuffer";
  s.onopen = () => { setState("ws", "open"); add("ws", "open"); };
  s.onmessage = (e) => {
    const took = `${(performance.now() - sent.shift()).toFixed(1)} ms`;
    add("ws", typeof e.data === "string" ? `“${e.data.slice(0, 200)}” back after ${took}` : `${(e.data.byteLength / 1024).toFixed(0)} KiB back after ${took}`);
  };
  s.onclose = (e) => {
    socket = null;
    sent.length = 0;
    setState("ws", "closed");
    const end = $("ws-ending");
    end.dataset.code = e.code;
    end.dataset.reason = e.reason;
    end.textContent = e.code === 1000 ? "" : `Closed with ${e.code}${e.reason ? `: ${e.reason}` : e.code === 1006 ? ": lost without a goodbye" : ""}.`;
    add("ws", `closed ${e.code} ${e.reason}`);
  };
  return s;
}

function send(data) {
  const s = openSocket();
  const now = () => { sent.push(performance.now()); s.send(data); };
  if (s.readyState === WebSocket.OPEN) now();
  else s.addEventListener("open", now);
}

$("ws-open").addEventListener("click", openSocket);
$("ws-close").addEventListener("click", () => socket?.close(1000, "enough"));

// ---- Events ----------------------------------------------------------------

let source = null;

function toggleEvents(every) {
  if (source) {
    source.close();
    source = null;
    setState("events", "closed");
    $("events-toggle").textContent = "Start";
    return;
  }
  source = new EventSource(`/events?every=${encodeURIComponent(every)}`);
  $("events-toggle").textContent = "Stop";
  setState("events", "connecting");
  source.onopen = () => setState("events", "open");
  source.onerror = () => {
    setState("events", source.readyState === EventSource.CLOSED ? "closed" : "connecting");
    if (source.readyState === EventSource.CLOSED) $("events-last").textContent = "The app refused; is the pause a duration such as 100ms?";
  };
  source.addEventListener("tick", (e) => {
    const t = JSON.parse(e.data);
    const last = $("events-last");
    last.dataset.instance = t.instance;
    last.dataset.n = t.n;
    last.textContent = `tick ${t.n} from ${t.instance}`;
  });
}

// ---- Forms -----------------------------------------------------------------

const actions = {
  spread: ({ n }) => spread(Number(n)),
  say: ({ text }) => send(text),
  bulk: ({ kib }) => send(new Uint8Array(kib * 1024)),
  events: ({ every }) => toggleEvents(every),
  poll: ({ seconds }) => askInto("poll", `/poll?seconds=${seconds}`),
  upload: ({ mib }) => askInto("bodies", "/upload", { method: "POST", body: new Uint8Array(mib * 2 ** 20) }),
  async download({ mib }) {
    show("bodies", "…");
    const start = performance.now();
    try {
      const res = await fetch(`/download?bytes=${mib * 2 ** 20}`);
      let n = 0;
      for (const reader = res.body.getReader(); ;) {
        const { done, value } = await reader.read();
        if (done) break;
        n += value.length;
      }
      const s = (performance.now() - start) / 1000;
      show("bodies", `${n} bytes in ${s.toFixed(2)} s from ${res.headers.get("Echo-Instance")}\n${(n / s / 2 ** 20).toFixed(0)} MiB a second`, !res.ok);
    } catch (err) {
      show("bodies", `Broke off: ${err.message}`, true);
    }
  },
  status: ({ code }) => askInto("bodies", `/status/${code}`),
  switch: (fields, form) => askInto("switch", `/switch/${form.dataset.name}?${new URLSearchParams(fields)}`, { method: "POST", signal: AbortSignal.timeout(ANSWER_MS) }),
};

for (const form of document.querySelectorAll("form")) {
  form.addEventListener("submit", async (e) => {
    e.preventDefault();
    const button = form.querySelector("button");
    button.disabled = true;
    try {
      await actions[form.dataset.do](Object.fromEntries(new FormData(form)), form);
    } finally {
      button.disabled = false;
    }
  });
}
for (const button of document.querySelectorAll("[data-get]")) {
  button.addEventListener("click", () => askInto("request", button.dataset.get));
}
