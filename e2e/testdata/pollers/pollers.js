// node pollers.js URL CLIENTS ROUNDS polling|upgrade: clients of socket.io that
// each say something ROUNDS times, every other one with a cookie jar. Prints one
// line of JSON: how they fared.

import http from "node:http";
import { io } from "socket.io-client";

const [url, clients, rounds, mode] = [process.argv[2], +process.argv[3], +process.argv[4], process.argv[5]];
const PATIENCE_MS = 60_000; // for everything; what has not happened then is told

const seen = { polls: 0, cookies: 0, unknown: 0, errors: 0, finished: 0, upgraded: 0, moved: 0, instances: {} };

// Each request of long polling, as it leaves, and each refusal of a session.
const request = http.request;
http.request = (...args) => {
  const req = request(...args);
  if (req.path.includes("transport=polling")) {
    seen.polls++;
    if (String(req.getHeader("cookie")).includes("GAESA=")) seen.cookies++;
    req.on("response", (res) => {
      if (res.statusCode !== 400) return;
      let body = "";
      res.on("data", (piece) => (body += piece));
      res.on("end", () => { if (body.includes("Session ID unknown")) seen.unknown++; });
    });
  }
  return req;
};

function client(n) {
  return new Promise((finished) => {
    const socket = io(url, {
      forceNew: true,
      transports: mode === "polling" ? ["polling"] : ["polling", "websocket"],
      withCredentials: n % 2 === 0, // in Node: keep cookies
      reconnection: false,
    });
    const failed = () => {
      seen.errors++;
      finished(socket);
    };
    socket.on("connect_error", failed);
    socket.on("disconnect", failed);
    let home, left = rounds;
    const say = () => socket.emit("say", "", ({ count, instance, transport }) => {
      if (instance !== home || count !== rounds - left + 1) seen.moved++;
      if (--left > 0) return say();
      if (transport === "websocket") seen.upgraded++;
      seen.finished++;
      finished(socket);
    });
    let ready = 0;
    const goOn = () => { if (++ready === 2) say(); };
    socket.on("welcome", ({ instance }) => {
      home = instance;
      seen.instances[home] = (seen.instances[home] ?? 0) + 1;
      goOn();
    });
    socket.on("connect", () => {
      const { engine } = socket.io; // which may have gone over already
      if (mode === "polling" || engine.transport.name === "websocket") goOn();
      else engine.once("upgrade", goOn);
    });
  });
}

const all = Promise.all(Array.from({ length: clients }, (_, n) => client(n)));
const late = new Promise((over) => setTimeout(over, PATIENCE_MS));
const sockets = await Promise.race([all, late]);
console.log(JSON.stringify(seen));
for (const s of sockets ?? []) s.off("disconnect");
process.exit(0);
