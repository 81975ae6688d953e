// Reads HTTP/1 by Node's parser, llhttp, for forward_test.go. Each line of the
// input is base64 of the bytes that a server would get on one connection; each
// line of the output is what it makes of them, as JSON.
import http from 'node:http';
import { createInterface } from 'node:readline';
import { Duplex } from 'node:stream';

// A request that never ends would be waited for; all bytes are there at once.
const patience = 300; // milliseconds

function read(bytes) {
  return new Promise((resolve) => {
    const requests = [];
    const timer = setTimeout(() => resolve({ error: 'not whole', requests }), patience);
    const done = (error) => { clearTimeout(timer); resolve({ error, requests }); };
    const note = (req) => {
      const one = { method: req.method, target: req.url, headers: req.rawHeaders, body: '', trailers: [] };
      requests.push(one);
      return one;
    };
    const server = http.createServer({ requireHostHeader: false }, (req, res) => {
      const one = note(req), body = [];
      req.on('data', (d) => body.push(d));
      req.on('error', (e) => done(String(e)));
      req.on('end', () => {
        one.body = Buffer.concat(body).toString('base64');
        one.trailers = req.rawTrailers;
        res.end();
      });
    });
    server.httpAllowHalfOpen = true;
    for (const way of ['upgrade', 'connect']) {
      server.on(way, (req, socket, head) => { note(req).body = head.toString('base64'); done(); });
    }
    server.on('clientError', (e) => done(e.code || String(e)));
    let sent = false;
    const socket = new Duplex({
      read() {
        if (sent) return;
        sent = true;
        this.push(bytes);
        this.push(null);
      },
      write(chunk, encoding, next) { next(); },
    });
    socket.setTimeout = socket.setNoDelay = socket.setKeepAlive = () => socket;
    socket.on('close', () => done());
    server.emit('connection', socket);
  });
}

for await (const line of createInterface({ input: process.stdin })) {
  console.log(JSON.stringify(await read(Buffer.from(line, 'base64'))));
}
