// Counting and talking with socket.io on several instances. Each session counts
// its messages in the memory of the instance that it is on, so that one sees when
// a session is lost. Start reading at io.on("connection").

import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { Server } from "socket.io";

const TEXT_MAX = 500;     // characters in a message
const FRAME_MAX = 16_384; // bytes
const HISTORY_MAX = 50;   // messages a newcomer sees
const QUEUE_MAX = 256;    // packets waiting for one slow reader before it is dropped
const GOODBYE_MS = 3000;  // for the last packets, before the process ends

const instance = process.env.GAE_INSTANCE || "local";
const history = []; // at most HISTORY_MAX, oldest first
let stopping = false;

const files = {
  "/": ["index.html", "text/html; charset=utf-8"],
  "/page.js": ["page.js", "text/javascript; charset=utf-8"],
  "/style.css": ["style.css", "text/css; charset=utf-8"],
};

const server = createServer(async (req, res) => {
  const path = req.url.split("?")[0];
  if (path === "/healthz") {
    res.writeHead(stopping ? 503 : 200, { "Content-Type": "text/plain" });
    return res.end(stopping ? "stopping\n" : "ok\n");
  }
  if (!Object.hasOwn(files, path)) {
    res.writeHead(404, { "Content-Type": "text/plain" });
    return res.end("not found\n");
  }
  const [name, type] = files[path];
  try {
    const body = await readFile(new URL(`public/${name}`, import.meta.url));
    res.writeHead(200, { "Content-Type": type, "Cache-Control": "no-cache" });
    res.end(body);
  } catch (err) {
    console.error(`read ${name}: ${err.message}`);
    res.writeHead(500);
    res.end();
  }
});

const io = new Server(server, { maxHttpBufferSize: FRAME_MAX });

io.on("connection", (socket) => {
  let count = 0;
  socket.emit("welcome", { instance, people: io.engine.clientsCount, history });

  // The answer to a message is the session's count: 1, 2, 3 … as long as the
  // session lives.
  socket.on("say", (text, answer) => {
    if (typeof text !== "string" || typeof answer !== "function") return;
    text = text.trim().slice(0, TEXT_MAX);
    count++;
    answer({ count, instance, transport: socket.conn.transport.name });
    if (text === "") return; // counted, and not worth telling
    history.push(text);
    if (history.length > HISTORY_MAX) history.shift();
    for (const other of io.sockets.sockets.values()) tell(other, text);
  });
});

// tell drops who lets packets pile up: one slow reader must not cost memory
// without end. On coming back it gets the history.
function tell(socket, text) {
  if (socket.conn.writeBuffer.length >= QUEUE_MAX) return socket.disconnect(true);
  socket.emit("said", text);
}

// SIGTERM: everybody is told to go elsewhere, then the end. Closing the
// engine, rather than disconnecting sockets, makes clients come back by themselves.
for (const signal of ["SIGTERM", "SIGINT"]) {
  process.on(signal, () => {
    if (stopping) return;
    stopping = true;
    setTimeout(() => process.exit(0), GOODBYE_MS).unref();
    io.engine.close();
    server.close(() => process.exit(0));
    server.closeIdleConnections();
  });
}

const port = process.env.PORT || 8080;
server.listen(port, () => console.log(`listening on port ${port}`));
