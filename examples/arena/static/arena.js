"use strict";

// The page's script, in five parts: what the server says, the hands, the
// picture, words for endings, and the connection. The server alone knows what
// is; the page draws it 110 ms late, so that it always has two fields to draw
// between. Only the own player is drawn ahead, where it will be by the rules.

const $ = (id) => document.getElementById(id);

const LATE_MS = 110;          // two ticks, and a little
const TIMELINE_MAX = 10;      // disconnections listed
const BACK_SHOWN_MS = 7000;   // how long the page tells that it is back
const PARTICLES_MAX = 400;
const STEER_MS = 34;          // at most so often
const STEER_AGAIN_MS = 500;   // and at least; the server stops a player after 3 s without

const store = { // of this tab, so that a reload is a reconnect
  get(key) { try { return sessionStorage.getItem(`arena.${key}`); } catch { return null; } },
  set(key, value) { try { sessionStorage.setItem(`arena.${key}`, value); } catch { /* forgets */ } },
};

// ---- What the server says --------------------------------------------------

let rules = null;
let you = -1;
let seats = new Map();  // id → {name, hue, best, bot}
let fields = [];        // the latest few, oldest first: {tick, bodies: Map, sparks: Map}
let clock = null;       // when tick 0 was, by our clock, as the quickest frames have it
let score = 0;
const mine = { x: 0, y: 0, vx: 0, vy: 0, dashing: 0, resting: 0, known: false }; // drawn ahead

globalThis.arena = {
  players: () => [...(fields.at(-1)?.bodies.values() ?? [])].map((b) => ({ ...b, name: seats.get(b.id)?.name, bot: !!seats.get(b.id)?.bot })),
  sparks: () => [...(fields.at(-1)?.sparks.values() ?? [])],
};

function welcome(f) {
  rules = f.rules;
  you = f.you;
  store.set("key", f.key);
  fields = [];
  clock = null;
  mine.known = false;
  score = null;
  $("field").dataset.id = you;
  $("room").textContent = f.room;
  $("instance").textContent = f.instance;
  $("instance").title = `${f.service} ${f.version} ${f.instance}`;
}

function roster(f) {
  seats = new Map(f.players.map((p) => [p.id, p]));
  $("room").textContent = f.room;
  $("others").replaceChildren(...(f.others || []).map((o) => {
    const li = element("li", "", o.name);
    li.append(element("b", "", o.people));
    return li;
  }));
  showBoard();
}

// field reads wire.go's frame.
function field(buffer) {
  const v = new DataView(buffer);
  const f = { tick: v.getUint32(0, true), bodies: new Map(), sparks: new Map() };
  let at = 5;
  for (let n = v.getUint8(4); n > 0; n--, at += 12) {
    const flags = v.getUint8(at + 9), id = v.getUint8(at);
    f.bodies.set(id, { id, x: v.getUint16(at + 1, true) / 32, y: v.getUint16(at + 3, true) / 32, vx: v.getInt16(at + 5, true) / 8, vy: v.getInt16(at + 7, true) / 8,
      dashing: !!(flags & 1), asleep: !!(flags & 2), safe: !!(flags & 4), rested: !!(flags & 8), score: v.getUint16(at + 10, true) });
  }
  for (let n = v.getUint8(at++); n > 0; n--, at += 4) {
    const x = v.getUint16(at, true), y = v.getUint16(at + 2, true);
    f.sparks.set(`${x}.${y}`, { x: x & 32767, y, gold: x > 32767 });
  }
  const before = fields.at(-1);
  if (before && f.tick <= before.tick) return;
  fields.push(f);
  if (fields.length > 12) fields.shift();
  const zero = performance.now() - f.tick * 1000 / rules.ticks;
  clock = clock === null || zero < clock || zero - clock > 1000 ? zero : clock + Math.min(1, (zero - clock) * 0.02);

  const me = f.bodies.get(you);
  if (me) {
    Object.assign($("field").dataset, { x: me.x.toFixed(1), y: me.y.toFixed(1) });
    correct(me);
    showScore(me.score);
  }
  if (before) differences(before, f);
  if (f.tick % 10 === 0) showBoard();
}

function showScore(now) {
  if (now === score) return;
  const el = $("score");
  if (score !== null) {
    el.classList.remove("up", "down");
    void el.offsetWidth; // lets the animation begin again
    el.classList.add(now > score ? "up" : "down");
    floats.push({ x: mine.x, y: mine.y - 34, text: now > score ? `+${now - score}` : `−${score - now}`, bad: now < score, age: 0 });
    if (now < score) shake = 1;
  }
  score = now;
  el.textContent = now;
}

function showBoard() {
  const bodies = fields.at(-1)?.bodies;
  if (!bodies) return;
  const all = [...bodies.values()].filter((b) => seats.has(b.id)).sort((a, b) => b.score - a.score || a.id - b.id);
  const shown = all.slice(0, 6);
  if (bodies.has(you) && !shown.some((b) => b.id === you)) shown[5] = bodies.get(you);
  $("board").replaceChildren(...shown.map((b) => {
    const p = seats.get(b.id) ?? { name: "…", hue: 0 };
    const li = element("li", [b.id === you && "own", p.bot && "bot", b.asleep && "asleep"].filter(Boolean).join(" "));
    li.dataset.id = b.id;
    li.style.setProperty("--hue", p.hue);
    li.append(element("span", "", p.name), element("b", "", b.score));
    return li;
  }));
}

// differences makes what happened between two fields visible.
function differences(a, b) {
  for (const [key, s] of a.sparks) {
    if (b.sparks.has(key)) continue;
    burst(s.x, s.y, s.gold ? 14 : 7, s.gold ? "gold" : "spark");
  }
  for (const [key, s] of b.sparks) if (!a.sparks.has(key)) born.set(key, performance.now());
  for (const now of b.bodies.values()) {
    const was = a.bodies.get(now.id);
    if (!was) { burst(now.x, now.y, 10, now.id); continue; }
    if (now.score < was.score) burst(now.x, now.y, 16, now.id);
    if (now.dashing && !was.dashing) rings.push({ x: now.x, y: now.y, id: now.id, age: 0 });
  }
}

// ---- The hands -------------------------------------------------------------

const held = new Set();
const KEYS = { ArrowLeft: [-1, 0], KeyA: [-1, 0], ArrowRight: [1, 0], KeyD: [1, 0], ArrowUp: [0, -1], KeyW: [0, -1], ArrowDown: [0, 1], KeyS: [0, 1] };
let stick = null;   // {id, x, y, dx, dy}: where a finger or the mouse holds
let dashAsked = false;
let steered = "";
let steeredAt = 0;

addEventListener("keydown", (e) => {
  if (e.target instanceof HTMLInputElement || e.ctrlKey || e.metaKey || e.altKey) return;
  if (KEYS[e.code]) { held.add(e.code); e.preventDefault(); played(); }
  if (e.code === "Space" && !(e.target instanceof HTMLButtonElement)) { if (!e.repeat) dash(); e.preventDefault(); }
});
addEventListener("keyup", (e) => held.delete(e.code));
addEventListener("blur", () => { held.clear(); stick = null; });

$("field").addEventListener("pointerdown", (e) => {
  $("field").focus();
  if (stick) { dash(); return; } // a second finger
  stick = { id: e.pointerId, x: e.clientX, y: e.clientY, dx: 0, dy: 0, mouse: e.pointerType === "mouse" };
  try { $("field").setPointerCapture(e.pointerId); } catch { /* it has gone already */ }
  if (stick.mouse) aim(e);
  played();
});
$("field").addEventListener("pointermove", (e) => { if (stick?.id === e.pointerId) aim(e); });
for (const end of ["pointerup", "pointercancel"]) $("field").addEventListener(end, (e) => { if (stick?.id === e.pointerId) stick = null; });
$("field").addEventListener("contextmenu", (e) => e.preventDefault());
$("dash").addEventListener("pointerdown", (e) => { e.preventDefault(); dash(); });

// A mouse pulls the player to itself; a finger is a stick that goes along.
function aim(e) {
  const from = stick.mouse ? toScreen(mine.x, mine.y) : [stick.x, stick.y];
  const reach = stick.mouse ? 90 : 52;
  let dx = (e.clientX - from[0]) / reach, dy = (e.clientY - from[1]) / reach;
  const n = Math.hypot(dx, dy);
  if (n > 1) {
    dx /= n; dy /= n;
    if (!stick.mouse) { stick.x = e.clientX - dx * reach; stick.y = e.clientY - dy * reach; }
  }
  Object.assign(stick, { dx, dy });
}

function dash() { dashAsked = true; played(); }
let plays = 0;
function played() { if (++plays === 12) $("keys").classList.add("known"); }

function wanted() {
  let x = 0, y = 0;
  for (const code of held) { x += KEYS[code][0]; y += KEYS[code][1]; }
  if (!x && !y && stick) return [stick.dx, stick.dy];
  const n = Math.max(1, Math.hypot(x, y));
  return [x / n, y / n];
}

function steer() {
  const now = performance.now();
  if (!linkOpen() || now - steeredAt < STEER_MS) return;
  const [x, y] = wanted();
  const bytes = new Uint8Array([Math.round(x * 127), Math.round(y * 127), dashAsked ? 1 : 0]);
  const word = bytes.join();
  if (word === steered && !dashAsked && now - steeredAt < STEER_AGAIN_MS) return;
  socket.send(bytes);
  if (dashAsked) ahead(x, y);
  dashAsked = false;
  steered = word;
  steeredAt = now;
}
setInterval(steer, 100); // also while the tab is not drawn

// ahead begins a dash before the server says so.
function ahead(x, y) {
  if (mine.resting > 0 || !mine.known) return;
  if (Math.hypot(x, y) < 0.2) [x, y] = [mine.vx, mine.vy];
  const n = Math.hypot(x, y);
  if (!n) return;
  [mine.vx, mine.vy] = [x / n * rules.dash, y / n * rules.dash];
  mine.dashing = rules.dashSeconds;
  mine.resting = rules.restSeconds;
}

// guess moves the own player by the rules of world.go.
function guess(dt) {
  if (!mine.known) return;
  mine.dashing = Math.max(0, mine.dashing - dt);
  mine.resting = Math.max(0, mine.resting - dt);
  const [x, y] = linkOpen() ? wanted() : [0, 0];
  if (mine.dashing === 0) {
    mine.vx += (x * rules.accel - mine.vx * rules.drag) * dt;
    mine.vy += (y * rules.accel - mine.vy * rules.drag) * dt;
  }
  mine.x += mine.vx * dt;
  mine.y += mine.vy * dt;
  for (const [px, py, r] of rules.pillars) {
    const d = Math.hypot(mine.x - px, mine.y - py), reach = r + rules.radius;
    if (d >= reach || d === 0) continue;
    const nx = (mine.x - px) / d, ny = (mine.y - py) / d;
    mine.x = px + nx * reach;
    mine.y = py + ny * reach;
    const into = mine.vx * nx + mine.vy * ny;
    if (into < 0) { mine.vx -= (1 + rules.bounce) * into * nx; mine.vy -= (1 + rules.bounce) * into * ny; }
  }
  const w = rules.width - rules.radius, h = rules.height - rules.radius;
  if (mine.x < rules.radius || mine.x > w) { mine.vx *= -rules.bounce; mine.x = Math.min(w, Math.max(rules.radius, mine.x)); }
  if (mine.y < rules.radius || mine.y > h) { mine.vy *= -rules.bounce; mine.y = Math.min(h, Math.max(rules.radius, mine.y)); }
}

// correct pulls the guess to what the server says; far off, it jumps.
function correct(me) {
  const lead = 0.06; // what the server says is so old, about
  const x = me.x + me.vx * lead, y = me.y + me.vy * lead;
  if (!mine.known || Math.hypot(x - mine.x, y - mine.y) > 160) {
    Object.assign(mine, { x: me.x, y: me.y, vx: me.vx, vy: me.vy, known: true });
    return;
  }
  mine.x += (x - mine.x) * 0.18;
  mine.y += (y - mine.y) * 0.18;
  if (mine.dashing === 0) { mine.vx += (me.vx - mine.vx) * 0.2; mine.vy += (me.vy - mine.vy) * 0.2; }
}

// ---- The picture -----------------------------------------------------------

const canvas = $("field");
const g = canvas.getContext("2d");
const view = { x: 800, y: 500, scale: 1, w: 0, h: 0 };
const trails = new Map();  // id → [{x, y, age}]
const born = new Map();    // spark → when
const faces = new Map();   // id → {look: [x, y], blink}
let particles = [], rings = [], floats = [];
let shake = 0;
let colours = {};
const calm = matchMedia("(prefers-reduced-motion: reduce)");
const dark = matchMedia("(prefers-color-scheme: dark)");

function readColours() {
  const css = getComputedStyle(document.documentElement);
  for (const name of ["sea", "deep", "dot", "edge", "stone", "stone-low", "stone-edge", "spark", "gold", "ink", "soft", "bad", "body-top", "body-low"]) colours[name] = css.getPropertyValue(`--${name}`).trim();
  for (const name of ["spark", "gold"]) { // one unit wide; scaled where it is drawn
    const glow = g.createRadialGradient(0, 0, .1, 0, 0, 1);
    glow.addColorStop(0, `${colours[name]}90`);
    glow.addColorStop(1, `${colours[name]}00`);
    colours[`${name}Glow`] = glow;
  }
}
dark.addEventListener("change", readColours);

function resize() {
  const dpr = Math.min(2, devicePixelRatio || 1);
  view.w = innerWidth;
  view.h = innerHeight;
  canvas.width = Math.round(view.w * dpr);
  canvas.height = Math.round(view.h * dpr);
  g.setTransform(dpr, 0, 0, dpr, 0, 0);
}
addEventListener("resize", resize);

function toScreen(x, y) { return [(x - view.x) * view.scale + view.w / 2, (y - view.y) * view.scale + view.h / 2]; }

function burst(x, y, n, colour) {
  if (calm.matches || document.hidden) return;
  for (; n > 0 && particles.length < PARTICLES_MAX; n--) {
    const a = Math.random() * 2 * Math.PI, v = 40 + Math.random() * 190;
    particles.push({ x, y, vx: Math.cos(a) * v, vy: Math.sin(a) * v, age: 0, life: .35 + Math.random() * .4, size: 2 + Math.random() * 3.5, colour });
  }
}

function tint(id, top) {
  const p = seats.get(id);
  if (!p || p.bot) return dark.matches ? (top ? "#8ea2b5" : "#53687d") : (top ? "#b4c3ce" : "#7b8fa0");
  return `hsl(${p.hue} ${colours[top ? "body-top" : "body-low"]})`;
}

// between is the field at the moment that is drawn.
function between(now) {
  if (!fields.length) return null;
  const tick = (now - LATE_MS - clock) * rules.ticks / 1000;
  let b = fields.findIndex((f) => f.tick >= tick);
  if (b === -1) b = fields.length - 1;
  const next = fields[b], last = fields[Math.max(0, b - 1)];
  const part = next === last ? 1 : Math.min(1, Math.max(0, (tick - last.tick) / (next.tick - last.tick)));
  const bodies = [];
  for (const n of next.bodies.values()) {
    const l = last.bodies.get(n.id) ?? n;
    const jump = Math.hypot(n.x - l.x, n.y - l.y) > 300;
    bodies.push({ ...n, x: jump ? n.x : l.x + (n.x - l.x) * part, y: jump ? n.y : l.y + (n.y - l.y) * part });
  }
  return { bodies, sparks: next.sparks };
}

let drawn = performance.now();
function draw(now) {
  requestAnimationFrame(draw);
  const dt = Math.min(.05, (now - drawn) / 1000);
  drawn = now;
  if (!rules) { g.fillStyle = colours.deep; g.fillRect(0, 0, view.w, view.h); return; }
  steer();
  guess(dt);
  const f = between(now);
  const area = Math.sqrt(view.w * view.h / (1180 * 760));
  view.scale = Math.max(area, view.w / rules.width * .92, view.h / rules.height * .88);
  follow(dt);
  g.fillStyle = colours.deep;
  g.fillRect(0, 0, view.w, view.h);
  g.save();
  shake = Math.max(0, shake - dt * 3);
  const jolt = calm.matches ? 0 : shake * shake * 9;
  g.translate(view.w / 2 + (Math.random() - .5) * jolt, view.h / 2 + (Math.random() - .5) * jolt);
  g.scale(view.scale, view.scale);
  g.translate(-view.x, -view.y);
  drawField(now);
  if (f) {
    for (const [key, s] of f.sparks) drawSpark(key, s, now);
    for (const key of born.keys()) if (!fields.at(-1).sparks.has(key)) born.delete(key);
    drawEffects(dt);
    const leader = f.bodies.reduce((best, b) => (b.score > (best?.score ?? 0) ? b : best), null);
    f.bodies.sort((a, b) => (b.asleep - a.asleep) || a.y - b.y);
    for (const b of f.bodies) drawBody(b.id === you && mine.known ? { ...b, x: mine.x, y: mine.y, vx: mine.vx, vy: mine.vy, dashing: b.dashing || mine.dashing > 0 } : b, b === leader, now, dt);
  }
  drawFloats(dt);
  g.restore();
  if (stick && !stick.mouse) drawStick();
  if (f) drawMap(f);
  const me = fields.at(-1)?.bodies.get(you);
  $("dash").style.setProperty("--rested", `${me && !me.rested ? Math.round(100 * (1 - Math.max(.05, mine.resting) / rules.restSeconds)) : 100}%`);
}

function follow(dt) {
  const seen = { w: view.w / view.scale, h: view.h / view.scale };
  const margin = 60;
  const axis = (at, size, end) => (size >= end + 2 * margin ? end / 2 : Math.min(end + margin - size / 2, Math.max(size / 2 - margin, at)));
  const x = axis(mine.x + mine.vx * .12, seen.w, rules.width), y = axis(mine.y + mine.vy * .12, seen.h, rules.height);
  const k = Math.hypot(x - view.x, y - view.y) > 700 ? 1 : 1 - Math.exp(-dt * 7);
  view.x += (x - view.x) * k;
  view.y += (y - view.y) * k;
}

function drawField(now) {
  g.fillStyle = colours.sea;
  g.strokeStyle = colours.edge;
  g.lineWidth = 5;
  g.beginPath();
  g.roundRect(0, 0, rules.width, rules.height, 34);
  g.fill();
  g.save();
  g.clip();
  g.fillStyle = colours.dot;
  const left = Math.max(0, view.x - view.w / view.scale / 2), right = Math.min(rules.width, view.x + view.w / view.scale / 2);
  for (let x = 50 * Math.ceil(left / 50); x < right; x += 50) {
    for (let y = 50; y < rules.height; y += 50) {
      const swell = calm.matches ? 0 : Math.sin(now / 900 + x / 170 + y / 230);
      g.globalAlpha = .55 + .35 * swell;
      const r = 2.1 + .8 * swell;
      g.fillRect(x - r / 2, y - r / 2 + swell * 2, r, r);
    }
  }
  g.restore();
  g.stroke();
  for (const [x, y, r] of rules.pillars) {
    g.fillStyle = "rgb(0 20 40 / .13)";
    circle(x + 5, y + 10, r + 2);
    g.fillStyle = colours["stone-edge"];
    circle(x, y + 4, r);
    const shade = g.createRadialGradient(x - r * .35, y - r * .45, r * .1, x, y, r);
    shade.addColorStop(0, colours.stone);
    shade.addColorStop(1, colours["stone-low"]);
    g.fillStyle = shade;
    circle(x, y, r);
    g.strokeStyle = colours["stone-edge"];
    g.lineWidth = 1.5;
    g.globalAlpha = .45;
    for (const k of [.42, .72]) { g.beginPath(); g.arc(x, y, r * k, .6 + k, 4.2 + k); g.stroke(); }
    g.globalAlpha = 1;
  }
}

function circle(x, y, r) { g.beginPath(); g.arc(x, y, r, 0, 2 * Math.PI); g.fill(); }

function drawSpark(key, s, now) {
  const grown = Math.min(1, Math.max(0, (now - (born.get(key) ?? 0)) / 260));
  const phase = (s.x * 7 + s.y * 13) % 6.28;
  const r = (s.gold ? 18 : 11.5) * grown * (calm.matches ? 1 : 1 + .12 * Math.sin(now / 320 + phase));
  g.save();
  g.translate(s.x, s.y);
  g.save();
  g.scale(r * 2.6, r * 2.6);
  g.fillStyle = s.gold ? colours.goldGlow : colours.sparkGlow;
  circle(0, 0, 1);
  g.restore();
  g.fillStyle = s.gold ? colours.gold : colours.spark;
  g.rotate(calm.matches ? 0 : now / 1600 + phase);
  g.beginPath();
  for (let i = 0; i < 4; i++) {
    const a = i * Math.PI / 2;
    g.lineTo(Math.cos(a) * r * 1.25, Math.sin(a) * r * 1.25);
    g.quadraticCurveTo(0, 0, Math.cos(a + Math.PI / 2) * r * 1.25, Math.sin(a + Math.PI / 2) * r * 1.25);
  }
  g.fill();
  circle(0, 0, r * .52);
  g.fillStyle = "rgb(255 255 255 / .85)";
  circle(0, 0, r * .25);
  g.restore();
}

function drawEffects(dt) {
  rings = rings.filter((r) => (r.age += dt) < .45);
  for (const r of rings) {
    g.globalAlpha = (1 - r.age / .45) * .7;
    g.strokeStyle = tint(r.id, true);
    g.lineWidth = 4 * (1 - r.age / .45) + 1;
    g.beginPath();
    g.arc(r.x, r.y, rules.radius + r.age * 130, 0, 2 * Math.PI);
    g.stroke();
  }
  particles = particles.filter((p) => (p.age += dt) < p.life);
  for (const p of particles) {
    p.x += p.vx * dt; p.y += p.vy * dt;
    p.vx *= 1 - 3 * dt; p.vy *= 1 - 3 * dt;
    g.globalAlpha = 1 - p.age / p.life;
    g.fillStyle = typeof p.colour === "number" ? tint(p.colour, true) : colours[p.colour];
    circle(p.x, p.y, p.size * (1 - p.age / p.life * .6));
  }
  g.globalAlpha = 1;
}

function drawBody(b, leads, now, dt) {
  const r = rules.radius;
  const speed = Math.hypot(b.vx, b.vy);
  const trail = trails.get(b.id) ?? trails.set(b.id, []).get(b.id);
  const fast = b.dashing || speed > 380;
  if (!calm.matches && !b.asleep && speed > 60) trail.push({ x: b.x, y: b.y, age: 0, fast });
  while (trail.length && ((trail[0].age > .34) || trail.length > 40)) trail.shift();
  for (const t of trail) {
    t.age += dt;
    const k = 1 - t.age / .34;
    if (k <= 0) continue;
    g.globalAlpha = k * (t.fast ? .3 : .1);
    g.fillStyle = tint(b.id, true);
    circle(t.x, t.y, r * (.35 + .55 * k));
  }
  g.globalAlpha = b.asleep ? .4 : 1;
  g.fillStyle = "rgb(0 20 40 / .16)";
  circle(b.x + 3, b.y + 8, r);
  g.save();
  g.translate(b.x, b.y);
  if (b.id === you) {
    g.strokeStyle = colours.ink;
    g.globalAlpha = .55;
    g.lineWidth = 2;
    g.setLineDash([7, 6]);
    g.lineDashOffset = calm.matches ? 0 : -now / 60;
    g.beginPath(); g.arc(0, 0, r + 8, 0, 2 * Math.PI); g.stroke();
    g.setLineDash([]);
    g.globalAlpha = b.asleep ? .4 : 1;
  }
  if (b.safe && !b.asleep) {
    g.fillStyle = colours.gold;
    g.globalAlpha = .16 + .1 * Math.sin(now / 70);
    circle(0, 0, r + 13);
    g.globalAlpha = 1;
  }
  const heading = Math.atan2(b.vy, b.vx);
  const squash = calm.matches ? 0 : Math.min(.2, speed / 4200) + (b.dashing ? .1 : 0);
  g.save();
  g.rotate(heading);
  g.scale(1 + squash, 1 - squash);
  g.rotate(-heading);
  const shade = g.createRadialGradient(-r * .35, -r * .45, r * .1, 0, 0, r * 1.15);
  shade.addColorStop(0, tint(b.id, true));
  shade.addColorStop(1, tint(b.id, false));
  g.fillStyle = shade;
  circle(0, 0, r);
  g.restore();
  drawFace(b, speed, now, dt);
  if (leads) drawCrown(r, now);
  g.restore();
  const name = seats.get(b.id)?.name ?? "";
  g.font = `${b.id === you ? 700 : 550} 14px ui-sans-serif, system-ui, sans-serif`;
  g.textAlign = "center";
  g.globalAlpha = b.asleep ? .5 : .95;
  g.lineWidth = 4;
  g.lineJoin = "round";
  g.strokeStyle = colours.sea;
  g.strokeText(name, b.x, b.y + r + 21);
  g.fillStyle = seats.get(b.id)?.bot ? colours.soft : colours.ink;
  g.fillText(name, b.x, b.y + r + 21);
  g.globalAlpha = 1;
}

function drawFace(b, speed, now, dt) {
  const face = faces.get(b.id) ?? faces.set(b.id, { x: 0, y: 1, blink: 1 + Math.random() * 4 }).get(b.id);
  const k = 1 - Math.exp(-dt * 12);
  if (speed > 25) { face.x += (b.vx / speed - face.x) * k; face.y += (b.vy / speed - face.y) * k; }
  if ((face.blink -= dt) < -.12) face.blink = 1.5 + Math.random() * 4;
  const shut = b.asleep || face.blink < 0;
  for (const side of [-1, 1]) {
    const x = face.x * 7 - face.y * 7.5 * side * .9, y = face.y * 5 + face.x * 7.5 * side * .55 - 2;
    if (shut) {
      g.strokeStyle = "rgb(0 0 0 / .6)";
      g.lineWidth = 2;
      g.lineCap = "round";
      g.beginPath(); g.arc(x, y - 1, 4.4, .3, Math.PI - .3); g.stroke();
      continue;
    }
    g.fillStyle = "#fff";
    circle(x, y, 6.2);
    g.fillStyle = "#14202b";
    circle(x + face.x * 2.4, y + face.y * 2.4, 3.1);
    g.fillStyle = "#fff";
    circle(x + face.x * 2.4 - 1, y + face.y * 2.4 - 1.2, 1.1);
  }
  if (b.asleep) {
    g.fillStyle = colours.ink;
    g.font = "700 13px ui-sans-serif, system-ui, sans-serif";
    g.fillText("z", 22 + 2 * Math.sin(now / 500), -18);
    g.fillText("z", 30 + 2 * Math.sin(now / 500 + 1), -28);
  }
}

function drawCrown(r, now) {
  g.save();
  g.translate(0, -r - 3 + (calm.matches ? 0 : Math.sin(now / 300) * 1.2));
  g.fillStyle = colours.gold;
  g.strokeStyle = "rgb(90 60 0 / .55)";
  g.lineWidth = 1.2;
  g.lineJoin = "round";
  g.beginPath();
  for (const [x, y] of [[-12, 0], [-13, -12], [-6, -6], [0, -15], [6, -6], [13, -12], [12, 0]]) g.lineTo(x, y);
  g.closePath();
  g.fill();
  g.stroke();
  g.restore();
}

function drawFloats(dt) {
  floats = floats.filter((f) => (f.age += dt) < .9).slice(-8);
  g.textAlign = "center";
  g.lineJoin = "round";
  for (const f of floats) {
    g.globalAlpha = 1 - f.age / .9;
    g.font = `800 ${f.bad ? 22 : 18}px ui-sans-serif, system-ui, sans-serif`;
    g.strokeStyle = colours.sea;
    g.lineWidth = 5;
    g.strokeText(f.text, f.x, f.y - f.age * 46);
    g.fillStyle = f.bad ? colours.bad : colours.ink;
    g.fillText(f.text, f.x, f.y - f.age * 46);
  }
  g.globalAlpha = 1;
}

function drawStick() {
  g.globalAlpha = .22;
  g.fillStyle = colours.ink;
  circle(stick.x, stick.y, 52);
  g.globalAlpha = .5;
  circle(stick.x + stick.dx * 52, stick.y + stick.dy * 52, 22);
  g.globalAlpha = 1;
}

// The map shows the whole field, where the window does not.
function drawMap(f) {
  if (view.w / view.scale >= rules.width * .98 && view.h / view.scale >= rules.height * .98) return;
  const w = Math.min(150, view.w * .3), k = w / rules.width, h = rules.height * k, x0 = 16, y0 = view.h - h - 18;
  g.globalAlpha = .8;
  g.fillStyle = colours.deep;
  g.strokeStyle = colours.edge;
  g.lineWidth = 1.5;
  g.beginPath(); g.roundRect(x0, y0, w, h, 7); g.fill(); g.stroke();
  g.fillStyle = colours["stone-edge"];
  for (const [x, y, r] of rules.pillars) circle(x0 + x * k, y0 + y * k, r * k);
  for (const s of f.sparks.values()) { g.fillStyle = s.gold ? colours.gold : colours.spark; circle(x0 + s.x * k, y0 + s.y * k, s.gold ? 2 : 1); }
  g.globalAlpha = 1;
  for (const b of f.bodies) { g.fillStyle = b.id === you ? colours.ink : tint(b.id, false); circle(x0 + b.x * k, y0 + b.y * k, b.id === you ? 4 : 3); }
}

function element(tag, className, words) {
  const el = document.createElement(tag);
  if (className) el.className = className;
  if (words !== undefined) el.textContent = words; // never HTML: it came from strangers
  return el;
}

$("fold").addEventListener("click", () => {
  const open = document.querySelector("aside").classList.toggle("open");
  $("fold").setAttribute("aria-expanded", open);
});

const ADJECTIVES = ["Amber", "Brisk", "Calm", "Dapper", "Eager", "Fond", "Gentle", "Hazel", "Jolly", "Keen", "Lucid", "Merry"];
const ANIMALS = ["Otter", "Puffin", "Seal", "Heron", "Limpet", "Tern", "Urchin", "Whelk", "Plover", "Crab", "Eider", "Gannet"];
const pick = (list) => list[Math.floor(Math.random() * list.length)];
$("name").value = store.get("name") || `${pick(ADJECTIVES)} ${pick(ANIMALS)}`;
store.set("name", $("name").value);
$("name").addEventListener("keydown", (e) => { if (e.key === "Enter") $("field").focus(); });
$("name").addEventListener("change", () => {
  if (!$("name").value.trim()) $("name").value = store.get("name") || "Somebody";
  store.set("name", $("name").value);
  if (linkOpen()) socket.send(JSON.stringify({ type: "name", name: $("name").value }));
});

// ---- Words for endings -----------------------------------------------------

// The reason of a Close frame is one word: the cause, as the logs have it.
const REASONS = {
  "moving": "The room moves to another instance",
  "deployed": "Another version took over",
  "scaled-down": "Fewer instances are needed now",
  "aged": "The instance was replaced after its long service",
  "unhealthy": "The instance failed its health checks",
  "crashed": "The instance crashed",
  "requested": "An operator stopped the instance",
  "rebalanced": "A fresh instance takes a share",
  "deadline": "The connection reached its longest time",
  "shutting-down": "The server is shutting down",
  "too-slow": "This page could not keep up",
  "too-fast": "This page steered too often",
  "full": "The room is full",
  "elsewhere": "You play in another window now",
};
const CODES = {
  1001: "The server went away",
  1006: "The connection was lost without a goodbye",
  1008: "The server refused what this page said",
  1011: "The server had an error",
  1012: "The service is restarting",
  1013: "The server is busy",
};
const FAULTS = new Set(["crashed", "unhealthy"]);

function words(code, reason) { return REASONS[reason] || CODES[code] || (reason ? `The connection ended: ${reason}` : "The connection ended"); }
function isFault(code, reason) { return FAULTS.has(reason) || (!REASONS[reason] && (code === 1006 || code === 1011)); }
function seconds(ms) { return ms < 59_500 ? `${(ms / 1000).toFixed(1)} s` : `${Math.round(ms / 60_000)} min`; }

let outage = null; // {at, code, reason, item, room} from the loss of a connection until it is back
let backTimer = 0;

function showStatus(state) {
  $("status").dataset.state = state;
  $("status").textContent = { open: "Connected", connecting: outage ? "Reconnecting" : "Connecting", closed: navigator.onLine ? "Disconnected" : "Offline", taken: "Elsewhere" }[state];
}

function showWhy(text, state, code, reason) {
  clearTimeout(backTimer);
  const el = $("why");
  el.textContent = text;
  el.hidden = false;
  Object.assign(el.dataset, { state, code, reason, kind: isFault(code, reason) ? "fault" : "plan" });
  if (state === "back") backTimer = setTimeout(() => { el.hidden = true; }, BACK_SHOWN_MS);
}

// disconnected is called once for each outage, however many attempts follow.
function disconnected(code, reason) {
  outage = { at: Date.now(), code, reason, room: $("room").textContent };
  showWhy(`${words(code, reason)}.${reason === "elsewhere" ? "" : " Reconnecting."}`, "lost", code, reason);
  const li = element("li", "");
  Object.assign(li.dataset, { code, reason, score, place: `${canvas.dataset.x},${canvas.dataset.y}` });
  li.append(element("b", "", words(code, reason)), element("span", "", "not back yet"));
  $("timeline").prepend(li);
  while ($("timeline").children.length > TIMELINE_MAX) $("timeline").lastChild.remove();
  outage.item = li;
}

// reconnected is called with the first field, which shows what was kept.
function reconnected() {
  const { at, code, reason, item, room } = outage;
  outage = null;
  const took = Date.now() - at, here = $("room").textContent;
  const where = here === room ? `in ${here}` : `in ${here}, another room`;
  const what = item.dataset.back ? `with ${score === 1 ? "1 spark" : `${score} sparks`}` : "as somebody new";
  showWhy(`${words(code, reason)}. Back after ${seconds(took)} ${where}, ${what}.`, "back", code, reason);
  item.dataset.seconds = (took / 1000).toFixed(3);
  item.dataset.keptScore = score;
  item.dataset.keptPlace = `${canvas.dataset.x},${canvas.dataset.y}`;
  item.lastChild.textContent = `back after ${seconds(took)} ${where}, ${what}`;
}

// ---- The connection --------------------------------------------------------

const FIRST_TRY_MS = 60;    // the room is on its successor before we are told
const LAST_TRY_MS = 1500;   // with its jitter below two seconds
const CONNECT_MS = 6000;    // an attempt may wait for an instance to be ready
const SILENCE_MS = 4000;    // the server says something twenty times a second
const STEADY_MS = 5000;     // a connection that lasted so long was a success

let socket = null;
let welcomed = 0; // when this socket had shown the field, 0 before
let attempts = 0;
let retryTimer = 0;
let watch = 0;
let taken = false; // another window plays for us

function linkOpen() { return socket !== null && welcomed > 0; }

function connect() {
  clearTimeout(retryTimer);
  if (socket || taken) return;
  showStatus("connecting");
  const s = new WebSocket(location.origin.replace(/^http/, "ws") + document.body.dataset.socket);
  s.binaryType = "arraybuffer";
  socket = s;
  welcomed = 0;
  expect(CONNECT_MS);
  s.onopen = () => s.send(JSON.stringify({ type: "hello", key: store.get("key") ?? "", name: $("name").value }));
  s.onmessage = (e) => {
    expect(SILENCE_MS);
    if (typeof e.data === "string") {
      const f = JSON.parse(e.data);
      if (f.type === "welcome") {
        welcome(f);
        if (outage && f.back) outage.item.dataset.back = true;
      } else if (f.type === "roster") roster(f);
      return;
    }
    if (!rules) return;
    field(e.data);
    if (!welcomed) {
      welcomed = Date.now();
      steered = "";
      showStatus("open");
      if (outage) reconnected();
      else $("why").hidden = true;
    }
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
  const was = welcomed > 0;
  if (was && Date.now() - welcomed > STEADY_MS) attempts = 0;
  socket = null;
  welcomed = 0;
  if (was && !outage) disconnected(code, reason);
  if (!was && !outage && !rules) showWhy("The arena cannot be reached yet. Trying again.", "lost", code, reason);
  taken = reason === "elsewhere";
  if (taken) showWhy("You play in another window now. Click to play here.", "lost", code, reason);
  showStatus(taken ? "taken" : "closed");
  if (taken) return;
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
addEventListener("pointerdown", () => { if (taken) { taken = false; connect(); } });

readColours();
resize();
requestAnimationFrame(draw);
connect();
