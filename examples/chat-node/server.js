// A chat with express and socket.io, the shape of App Engine's own sample: one
// file, the people kept in the memory of their instance, and a bus that carries
// what is said from one instance to the others. socket.io begins with long
// polling and goes over to a WebSocket when it can. Start reading at
// io.on("connection"), then connectBus.

import { randomBytes } from "node:crypto";
import { createServer } from "node:http";
import express from "express";
import { createAdapter } from "@socket.io/redis-adapter";
import { createClient } from "redis";
import { Server } from "socket.io";

const HISTORY_MAX = 100;  // messages a newcomer sees
const SEEN_MAX = 2000;    // message ids remembered, to know a repeated one
const PEOPLE_MAX = 2000;  // sockets on this instance; one more is told to come later
const QUEUE_MAX = 256;    // packets waiting for one slow reader before it is dropped
const FRAME_MAX = 16_384; // bytes; TEXT_MAX characters fit even when each is escaped
const TEXT_MAX = 2000;    // characters in a message
const NAME_MAX = 32;      // characters in a name
const ID_MAX = 80;        // characters in a message id
const NAMES_MAX = 50;     // names told to everybody; beyond it only the count is
const PEOPLE_MS = 200;    // many who come at once are told of at once
const GONE_MS = 6000;     // an instance that says nothing for so long has no people
const ANSWER_MS = 1000;   // the other instances answer within that
const GOODBYE_MS = 3000;  // for the last packets, before the process ends

// App Engine tells an app who it is in its environment.
const identity = {
  service: process.env.GAE_SERVICE || "default",
  version: process.env.GAE_VERSION || "local",
  instance: process.env.GAE_INSTANCE || `local-${randomBytes(4).toString("hex")}`,
  since: new Date().toISOString(),
};

const history = [];     // at most HISTORY_MAX, oldest first, of all instances
const seen = new Map(); // id → message, at most SEEN_MAX, oldest first
const elsewhere = new Map(); // instance → { names, count, at }: who is on the others
let stopping = false;

const app = express();
app.disable("x-powered-by");
app.get("/healthz", (req, res) => res.status(stopping ? 503 : 200).type("text").send(stopping ? "stopping\n" : "ok\n"));
app.use(express.static(new URL("public", import.meta.url).pathname, { cacheControl: false, setHeaders: (res) => res.set("Cache-Control", "no-cache") }));

const server = createServer(app);
const io = new Server(server, {
  maxHttpBufferSize: FRAME_MAX,
  pingInterval: 10_000, // with the next line: a page notices a dead connection within 25 s
  pingTimeout: 15_000,
  allowRequest: (req, answer) => answer(null, sameOrigin(req)),
});

// Another site's page must not speak in a visitor's name. It works because the
// front end leaves Host as the browser sent it. Programs send no Origin.
function sameOrigin(req) {
  const { origin, host } = req.headers;
  return origin === undefined || (URL.canParse(origin) && new URL(origin).host === host);
}

io.on("connection", (socket) => {
  if (stopping) return leave(socket, 1001, "stopping");
  if (io.sockets.sockets.size > PEOPLE_MAX) return leave(socket, 1013, "full");
  socket.data.name = tidy(socket.handshake.auth?.name);
  send(socket, "welcome", { ...identity, ...who(), history });
  peopleChanged();

  socket.on("say", (m) => say(socket, text(m?.id), text(m?.text).trim()));
  socket.on("name", (m) => {
    socket.data.name = tidy(m?.name);
    peopleChanged();
  });
  socket.on("disconnect", peopleChanged);
});

// say tells everybody, unless the message is known: then its sender alone, who
// asks again because it did not hear the first answer.
function say(socket, id, words) {
  const refuse = (why) => send(socket, "refused", { id, why });
  if (!id || id.length > ID_MAX) return refuse("a message needs an id of at most 80 characters");
  if (!words) return refuse("a message needs some text");
  if (words.length > TEXT_MAX) return refuse("a message has at most 2000 characters");
  if (seen.has(id)) return send(socket, "message", { message: seen.get(id) });

  const message = { id, name: socket.data.name, text: words, at: new Date().toISOString() };
  hear(message);
  io.serverSideEmit("said", message); // to the other instances
}

// hear tells everybody here what was said, here or on another instance.
function hear(message) {
  if (seen.has(message.id)) return;
  history.push(message);
  history.sort((a, b) => (a.at < b.at ? -1 : 1)); // nearly always is; not so what another instance tells later
  if (history.length > HISTORY_MAX) history.shift();
  seen.set(message.id, message);
  if (seen.size > SEEN_MAX) seen.delete(seen.keys().next().value);
  everybody("message", { message });
}

function everybody(type, frame) {
  for (const socket of io.sockets.sockets.values()) send(socket, type, frame);
}

// send drops who lets packets pile up: one slow reader must not cost memory
// without end. On coming back it gets the history.
function send(socket, type, frame) {
  if (socket.conn.writeBuffer.length >= QUEUE_MAX) return leave(socket, 1013, "too-slow");
  socket.emit(type, frame);
}

// leave says why in a packet of its own: socket.io's disconnection has no room
// for a reason.
function leave(socket, code, reason) {
  socket.emit("goodbye", { code, reason });
  socket.disconnect(true);
}

let telling = null;
function peopleChanged() {
  telling ??= setTimeout(() => {
    telling = null;
    io.serverSideEmit("people", identity.instance, here());
    everybody("people", who());
  }, PEOPLE_MS);
}

// here is who is on this instance; who, on all of them as far as they said so.
function here() {
  const names = [];
  for (const { data } of io.sockets.sockets.values()) {
    if (names.push(data.name ?? "Somebody") === NAMES_MAX) break;
  }
  return { names, count: io.sockets.sockets.size };
}

function who() {
  const all = [here(), ...elsewhere.values()];
  return {
    names: all.flatMap(({ names }) => names).slice(0, NAMES_MAX).sort(),
    count: all.reduce((sum, { count }) => sum + count, 0),
  };
}

// connectBus lets instances hear each other. Without REDIS_URL this one is
// alone; while the bus is away messages reach who is here, and redis connects
// again by itself.
async function connectBus() {
  const { REDIS_URL, REDIS_PREFIX = "" } = process.env;
  if (!REDIS_URL) return;
  const publisher = createClient({ url: REDIS_URL, disableOfflineQueue: true });
  const subscriber = publisher.duplicate();
  for (const client of [publisher, subscriber]) client.on("error", (err) => console.error(`bus: ${err.message || err.code}`));
  // What the adapter cannot publish now, nobody can be told of.
  const publish = publisher.publish.bind(publisher);
  publisher.publish = (channel, message) => publish(channel, message).catch((err) => console.error(`bus: not published: ${err.message}`));
  await Promise.all([publisher.connect(), subscriber.connect()]);
  io.adapter(createAdapter(publisher, subscriber, { key: `${REDIS_PREFIX}chat`, requestsTimeout: ANSWER_MS }));

  io.on("said", hear);
  io.on("exchange", (recent, answer) => {
    recent.forEach(hear);
    answer(history);
  });
  io.on("people", (instance, people) => {
    const known = elsewhere.has(instance);
    elsewhere.set(instance, { ...people, at: Date.now() });
    everybody("people", who());
    if (!known) peopleChanged(); // a newcomer has not heard of us either
  });
  setInterval(() => {
    for (const [instance, { at }] of elsewhere) if (Date.now() - at > GONE_MS) elsewhere.delete(instance);
    peopleChanged();
  }, GONE_MS / 3).unref();

  for (const client of [publisher, subscriber]) client.on("ready", exchange);
  await subscriber.ping(); // answered after the adapter's subscriptions: answers find us
  await exchange(); // who comes to a new instance finds what was said before it began
}

// exchange brings all instances to the same messages. One that begins, or was
// away from the bus, tells what it heard lately and asks for the same.
async function exchange() {
  try {
    const answers = await io.serverSideEmitWithAck("exchange", history);
    answers.flat().forEach(hear);
  } catch (err) {
    (err.responses ?? []).flat().forEach(hear); // one of them did not answer in time
    console.error(`bus: not everybody answered: ${err.message}`);
  }
}

function text(v) {
  return typeof v === "string" ? v : "";
}

// tidy makes anything a name: one line, printable, short.
function tidy(name) {
  const line = text(name).replace(/[\p{C}\p{Z}]+/gu, " ").trim();
  return [...line].slice(0, NAME_MAX).join("").trim() || "Somebody";
}

// SIGTERM: goodbye to everybody, then the end, within GOODBYE_MS.
for (const signal of ["SIGTERM", "SIGINT"]) {
  process.on(signal, () => {
    if (stopping) return;
    stopping = true;
    console.log(`goodbye to ${io.sockets.sockets.size}`);
    for (const socket of [...io.sockets.sockets.values()]) leave(socket, 1001, "stopping");
    io.close(() => process.exit(0)); // closes the server too; waits for requests in flight
    setTimeout(() => process.exit(0), GOODBYE_MS).unref();
  });
}

await connectBus();
server.listen(process.env.PORT || 8080, () => {
  console.log(`chat listens on ${server.address().port}, instance ${identity.instance}`);
});
