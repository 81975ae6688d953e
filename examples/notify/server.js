// Notifications, with express, ws and a bus: whoever is told something is told on
// every device, whichever instance that device is connected to, and what came
// while a device was away it gets when it is back. inbox.js keeps what was sent
// lately, bus.js carries it between instances. Start reading at
// app.post("/notify"), then heard.

import { randomBytes } from "node:crypto";
import { createServer } from "node:http";
import express from "express";
import { WebSocketServer } from "ws";
import { connectBus } from "./bus.js";
import { Inboxes } from "./inbox.js";

const DEVICES_MAX = 2000;   // sockets on this instance; one more is told to come later
const WAITING_MAX = 1 << 18; // bytes waiting for one slow reader before it is dropped
const FRAME_MAX = 4096;     // bytes that a device says at once
const TEXT_MAX = 300;       // characters of a notification
const NAME_MAX = 32;        // characters of a user's name
const ID_MAX = 80;          // characters of an id
const READ_MAX = 50;        // ids marked as read at once
const HELLO_MS = 10_000;    // a page says at once who it is
const TICK_MS = 10_000;     // lets a page notice a connection that died silently
const ANSWER_MS = 1000;     // the other instances answer within that
const GOODBYE_MS = 3000;    // for the last frames, before the process ends

// App Engine tells an app who it is in its environment.
const identity = {
  service: process.env.GAE_SERVICE || "default",
  version: process.env.GAE_VERSION || "local",
  instance: process.env.GAE_INSTANCE || `local-${randomBytes(4).toString("hex")}`,
  since: new Date().toISOString(),
};

const inboxes = new Inboxes();
const devices = new Map(); // user → Set of sockets: the devices on this instance
let stopping = false;
let bus = null; // null: this instance is alone

// ---- Sending ----------------------------------------------------------------

const app = express();
app.disable("x-powered-by");
app.get("/healthz", (req, res) => res.status(stopping ? 503 : 200).type("text").send(stopping ? "stopping\n" : "ok\n"));
app.use((req, res, next) => {
  res.set({
    "Cache-Control": "no-cache",
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
  });
  next();
});
app.use(express.static(new URL("public", import.meta.url).pathname, { cacheControl: false }));

// A sender chooses the id. One that got no answer sends the same again, to
// whichever instance; by its id the notification is still one.
app.post("/notify", express.json({ limit: FRAME_MAX }), async (req, res) => {
  const { id, to, by, text } = req.body ?? {};
  const note = { id: string(id), to: tidy(to), by: tidy(by) || "Somebody", text: string(text).trim(), at: new Date().toISOString() };
  if (!sameOrigin(req)) return res.status(403).type("text").send("another site's page\n");
  if (!note.id || note.id.length > ID_MAX) return res.status(400).type("text").send(`a notification needs an id of at most ${ID_MAX} characters\n`);
  if (!note.to) return res.status(400).type("text").send("to whom?\n");
  if (!note.text || note.text.length > TEXT_MAX) return res.status(400).type("text").send(`a notification has 1 to ${TEXT_MAX} characters\n`);
  // Every instance hears it from the bus, this one too. What was answered with
  // 202 is kept by all of them.
  if (!inboxes.has(note.to, note.id) && !(await tell({ note }))) {
    return res.status(503).set("Retry-After", "1").type("text").send("the bus is away; send it again\n");
  }
  res.status(202).json({ id: note.id });
});

app.use((err, req, res, next) => res.status(err.status ?? 500).type("text").send(err.status ? `${err.message}\n` : "internal error\n"));

// ---- What instances tell each other -----------------------------------------

// tell publishes to every instance, this one too, and says whether any heard it.
async function tell(envelope) {
  envelope.from = identity.instance;
  if (bus) return (await bus.publish(envelope)) > 0;
  heard(envelope);
  return true;
}

function heard({ from, note, read, ask, inbox, done }) {
  if (note && inboxes.add(note)) toDevices(note.to, { type: "note", note });
  if (read && inboxes.read(read.user, read.ids)) toDevices(read.user, { type: "read", ids: read.ids });
  if (from === identity.instance) return;
  if (ask) answer();
  for (const note of inbox ?? []) {
    if (inboxes.add(note)) toDevices(note.to, { type: "note", note });
    else if (note.read && inboxes.read(note.to, [note.id])) toDevices(note.to, { type: "read", ids: [note.id] });
  }
  if (done) settled();
}

// answer gives what is kept to an instance that asked, an inbox at a time.
async function answer() {
  for (const inbox of inboxes.all()) await tell({ inbox });
  await tell({ done: true });
}

// catchUp asks the others for what was sent while this instance was not there.
let settled = () => {};
async function catchUp() {
  const answered = new Promise((resolve) => { settled = resolve; });
  const instances = await bus.publish({ from: identity.instance, ask: true });
  if (instances > 1) await Promise.race([answered, new Promise((resolve) => setTimeout(resolve, ANSWER_MS))]);
}

// ---- Devices ----------------------------------------------------------------

const server = createServer(app);
const sockets = new WebSocketServer({ server, path: "/ws", maxPayload: FRAME_MAX, verifyClient: ({ req }) => sameOrigin(req) });

sockets.on("connection", (socket) => {
  socket.on("error", () => socket.terminate()); // a frame too big, say
  if (stopping) return socket.close(1001, "stopping");
  if (sockets.clients.size > DEVICES_MAX) return socket.close(1013, "full");
  const late = setTimeout(() => socket.close(1008, "say hello first"), HELLO_MS);
  let user = "";
  socket.on("message", (data) => {
    const frame = parse(data);
    if (frame.type === "hello" && !user) {
      // Here an app of yours would look who is signed in. This one believes it.
      user = tidy(frame.user);
      if (!user) return socket.close(1008, "who are you?");
      clearTimeout(late);
      if (!devices.has(user)) devices.set(user, new Set());
      devices.get(user).add(socket);
      send(socket, { type: "welcome", ...identity, user, notes: inboxes.of(user) });
    } else if (frame.type === "read" && user && Array.isArray(frame.ids)) {
      tell({ read: { user, ids: frame.ids.map(string).slice(0, READ_MAX) } });
    }
  });
  socket.on("close", () => {
    clearTimeout(late);
    devices.get(user)?.delete(socket);
    if (devices.get(user)?.size === 0) devices.delete(user);
  });
});

function toDevices(user, frame) {
  for (const socket of devices.get(user) ?? []) send(socket, frame);
}

// send drops who lets bytes pile up: one slow reader must not cost memory
// without end. On coming back it gets what is kept.
function send(socket, frame) {
  if (socket.bufferedAmount > WAITING_MAX) return socket.close(1013, "too-slow");
  socket.send(JSON.stringify(frame));
}

setInterval(() => {
  for (const socket of sockets.clients) send(socket, { type: "tick" });
}, TICK_MS).unref();

// Another site's page must not speak in a visitor's name. It works because the
// front end leaves Host as the browser sent it. Programs send no Origin.
function sameOrigin(req) {
  const { origin, host } = req.headers;
  return origin === undefined || (URL.canParse(origin) && new URL(origin).host === host);
}

function parse(data) {
  try {
    return Object(JSON.parse(data));
  } catch {
    return {}; // not ours; passed over
  }
}

function string(v) {
  return typeof v === "string" ? v : "";
}

// tidy makes anything a user's name: one line, printable, short, lower case.
function tidy(name) {
  const line = string(name).replace(/[\p{C}\p{Z}]+/gu, " ").trim().toLowerCase();
  return [...line].slice(0, NAME_MAX).join("").trim();
}

// SIGTERM: goodbye to everybody, then the end, within GOODBYE_MS.
for (const signal of ["SIGTERM", "SIGINT"]) {
  process.on(signal, () => {
    if (stopping) return;
    stopping = true;
    console.log(`goodbye to ${sockets.clients.size}`);
    for (const socket of sockets.clients) socket.close(1001, "stopping");
    server.close(() => process.exit(0)); // waits for requests in flight
    setTimeout(() => process.exit(0), GOODBYE_MS).unref();
  });
}

bus = await connectBus("notify", heard);
if (bus) {
  await catchUp(); // who comes to a new instance finds what was sent before it began
  bus.again(catchUp);
}
server.listen(process.env.PORT || 8080, () => {
  console.log(`notify listens on ${server.address().port}, instance ${identity.instance}`);
});
