// Two libraries of an older generation, as they come. Each session counts its
// messages in the memory of its instance, and tells which that is.

import { createServer } from "node:http";
import io from "socket.io";
import sockjs from "sockjs";

const instance = process.env.GAE_INSTANCE || "local";

const server = createServer((req, res) => {
  res.writeHead(req.url === "/healthz" ? 200 : 404);
  res.end();
});

// engine.io 3, below socket.io 2.
io(server).on("connection", (socket) => {
  let count = 0;
  socket.emit("welcome", instance);
  socket.on("say", (answer) => answer({ count: ++count, instance, transport: socket.conn.transport.name }));
});

const echo = sockjs.createServer({ log: () => {} });
echo.on("connection", (conn) => {
  let count = 0;
  conn.write(JSON.stringify({ count, instance }));
  conn.on("data", () => conn.write(JSON.stringify({ count: ++count, instance })));
});
echo.installHandlers(server, { prefix: "/sock" });

process.on("SIGTERM", () => process.exit(0));
server.listen(process.env.PORT || 8080);
