// node clients.js URL CLIENTS ROUNDS KIND: clients without cookies that each say
// something ROUNDS times. KIND is socket.io's polling or upgrade, or a transport of
// SockJS. Prints one line of JSON: how they fared.

import io from "socket.io-client";
import SockJS from "sockjs-client";

const [url, clients, rounds, kind] = [process.argv[2], +process.argv[3], +process.argv[4], process.argv[5]];
const PATIENCE_MS = 60_000; // for everything; what has not happened then is told
const CHANGEOVER_MS = 20_000; // to open: SockJS would take a busy machine for a firewall

const seen = { finished: 0, errors: 0, moved: 0, upgraded: 0, transports: {}, instances: {} };
const began = (instance) => { seen.instances[instance] = (seen.instances[instance] ?? 0) + 1; };

// elder speaks socket.io 2.
function elder() {
  return new Promise((over) => {
    const socket = io(url, { forceNew: true, reconnection: false, transports: kind === "polling" ? ["polling"] : ["polling", "websocket"] });
    const failed = () => { seen.errors++; over(); };
    socket.on("connect_error", failed);
    socket.on("disconnect", failed);
    let home, left = rounds;
    const say = () => socket.emit("say", ({ count, instance, transport }) => {
      if (instance !== home || count !== rounds - left + 1) seen.moved++;
      if (--left > 0) return say();
      if (transport === "websocket") seen.upgraded++;
      seen.finished++;
      socket.off("disconnect");
      over();
    });
    socket.on("welcome", (instance) => {
      began(home = instance);
      const engine = socket.io.engine;
      if (kind === "polling" || engine.transport.name === "websocket") return say();
      const late = setTimeout(failed, CHANGEOVER_MS);
      engine.once("upgrade", () => { clearTimeout(late); say(); });
    });
  });
}

// sock speaks SockJS over one transport.
function sock() {
  return new Promise((over) => {
    const conn = new SockJS(url + "/sock", null, { transports: [kind], timeout: CHANGEOVER_MS });
    let home, left = rounds;
    conn.onmessage = ({ data }) => {
      const { count, instance } = JSON.parse(data);
      if (count === 0) began(home = instance);
      if (instance !== home || count !== rounds - left) seen.moved++;
      if (left-- > 0) return conn.send("say");
      seen.finished++;
      seen.transports[conn.transport] = (seen.transports[conn.transport] ?? 0) + 1;
      conn.onclose = null;
      conn.close();
      over();
    };
    conn.onclose = () => { seen.errors++; over(); };
  });
}

const one = kind === "polling" || kind === "upgrade" ? elder : sock;
const all = Promise.all(Array.from({ length: clients }, one));
await Promise.race([all, new Promise((over) => setTimeout(over, PATIENCE_MS))]);
console.log(JSON.stringify(seen));
process.exit(0);
