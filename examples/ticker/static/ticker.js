"use strict";

// The page's script, in three parts: the prices, the connection's state, and the
// connection, which is an EventSource: it comes back by itself and tells the
// server the number of the last tick it saw.

const $ = (id) => document.getElementById(id);

const SHOWN_MAX = 180;        // ticks in a chart
const TIMELINE_MAX = 20;      // disconnections listed
const BACK_SHOWN_MS = 30_000; // how long the page tells that it is back
const SILENCE_MS = 12_000;    // the server says something every five seconds

// ---- The prices ------------------------------------------------------------

let names = {};
const past = []; // the last ticks, oldest first, at most SHOWN_MAX
const count = { last: 0, received: 0, missing: 0, twice: 0 };

// take keeps count: each tick names the one before it, so what is missing or
// comes twice shows.
function take(tick) {
  if (tick.tick <= count.last) {
    count.twice++;
    return;
  }
  if (count.last && tick.before !== count.last) count.missing++;
  count.last = tick.tick;
  count.received++;
  past.push(tick);
  if (past.length > SHOWN_MAX) past.shift();
}

function show() {
  const now = past.at(-1);
  if (now) for (const [name, price] of Object.entries(now.prices)) showGood(name, price);
  $("empty").hidden = !!now;
  for (const [key, n] of Object.entries(count)) $("count").dataset[key] = n;
  const bad = count.missing + count.twice > 0;
  $("count").className = bad ? "bad" : "";
  $("count").replaceChildren(
    item("last tick", now ? new Date(count.last * 1000).toLocaleTimeString() : "–"),
    item("received", count.received.toLocaleString()),
    item("missing", count.missing),
    item("twice", count.twice));
}

function item(label, value) {
  const el = element("span", "", `${label} `);
  el.append(element("b", "", value));
  return el;
}

function showGood(name, price) {
  const row = document.querySelector(`.good[data-name="${CSS.escape(name)}"]`) ?? newGood(name);
  const series = past.map((t) => t.prices[name]).filter((p) => p !== undefined);
  const change = price / series[0] - 1;
  const before = Number(row.dataset.price);
  row.dataset.price = price;
  row.dataset.trend = change < 0 ? "down" : "up";
  row.querySelector(".price").textContent = price.toFixed(2);
  row.querySelector(".change").textContent = `${change < 0 ? "▼" : "▲"} ${Math.abs(change * 100).toFixed(2)} %`;
  if (before && before !== price) flash(row, price > before);
  drawChart(row, series);
}

function newGood(name) {
  const row = element("li", "good");
  row.dataset.name = name;
  const label = element("div", "label");
  label.append(element("b", "", name), element("span", "", names[name] ?? ""));
  const chart = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  chart.setAttribute("viewBox", "0 0 100 30");
  chart.setAttribute("preserveAspectRatio", "none");
  chart.setAttribute("aria-hidden", "true");
  for (const className of ["area", "line"]) {
    const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
    path.setAttribute("class", className);
    chart.append(path);
  }
  const numbers = element("div", "numbers");
  numbers.append(element("b", "price", ""), element("span", "change", ""));
  row.append(label, chart, numbers);
  $("goods").append(row);
  return row;
}

function drawChart(row, series) {
  const low = Math.min(...series), high = Math.max(...series), height = high - low || 1;
  const points = series.map((p, i) => `${(100 * i / Math.max(1, series.length - 1)).toFixed(2)} ${(27 - 24 * (p - low) / height).toFixed(2)}`);
  row.querySelector(".line").setAttribute("d", `M${points.join("L")}`);
  row.querySelector(".area").setAttribute("d", `M0 30L${points.join("L")}L100 30Z`);
}

function flash(row, up) {
  const price = row.querySelector(".price");
  price.classList.remove("rose", "fell");
  void price.offsetWidth; // so that the animation begins again
  price.classList.add(up ? "rose" : "fell");
}

function element(tag, className, text) {
  const el = document.createElement(tag);
  if (className) el.className = className;
  if (text !== undefined) el.textContent = text;
  return el;
}

// ---- The connection's state ------------------------------------------------

let instance = "";
let outage = null; // {at, from, why, last, item} from the loss of a stream until it is back
let backTimer = 0;

function showStatus(state) {
  $("status").dataset.state = state;
  $("status").textContent = { open: "Live", connecting: outage ? "Reconnecting" : "Connecting", closed: "Disconnected" }[state];
}

function showWhy(text, state) {
  clearTimeout(backTimer);
  $("why").textContent = text;
  $("why").dataset.state = state;
  $("why").hidden = false;
  if (state === "back") backTimer = setTimeout(() => { $("why").hidden = true; }, BACK_SHOWN_MS);
}

function lost(why) {
  showStatus("connecting");
  if (outage || !instance) return;
  outage = { at: Date.now(), from: instance, why, received: count.received };
  showWhy(`${why}. Reconnecting.`, "lost");
  const li = element("li");
  li.dataset.from = instance;
  li.append(element("b", "", why), element("span", "", new Date().toLocaleTimeString()), element("span", "", "not back yet"));
  $("timeline").prepend(li);
  while ($("timeline").children.length > TIMELINE_MAX) $("timeline").lastChild.remove();
  $("never").hidden = true;
  outage.item = li;
}

// back is called with the first tick after an outage: then it is known what was
// brought up.
function back(caught) {
  const { at, from, why, item } = outage;
  outage = null;
  const seconds = (Date.now() - at) / 1000;
  const place = instance === from ? "the same instance" : `instance ${instance}`;
  const missed = count.missing ? `${count.missing} gaps so far` : "no tick missed";
  item.dataset.to = instance;
  item.dataset.seconds = seconds.toFixed(3);
  item.dataset.caught = caught;
  item.lastChild.textContent = `back after ${seconds.toFixed(1)} s on ${place}, ${missed}`;
  showWhy(`${why}. Back after ${seconds.toFixed(1)} s, ${missed}.`, "back");
}

// ---- The connection --------------------------------------------------------

const AGAIN_MS = 500; // when the browser gives up: an answer that was no stream

let source = null;
let watch = 0;

function connect() {
  source?.close();
  const s = source = new EventSource(count.last ? `ticks?after=${count.last}` : "ticks");
  showStatus("connecting");
  expect();
  const on = (type, take) => s.addEventListener(type, (e) => {
    if (s !== source) return;
    expect();
    take(JSON.parse(e.data));
  });
  on("hello", (me) => {
    instance = me.instance;
    names = me.goods;
    $("instance").textContent = $("instance-long").textContent = $("instance").dataset.instance = me.instance;
    $("instance").parentElement.hidden = false;
    $("service").textContent = me.service;
    $("version").textContent = me.version;
    $("since").textContent = new Date(me.since).toLocaleTimeString();
    showStatus("open");
  });
  on("kept", (ticks) => { // everything the server has: we are new, or were away for too long
    if (count.last && ticks.length) count.missing++;
    count.last = 0;
    past.length = 0;
    ticks.forEach(take);
    if (outage) back(ticks.length);
    show();
  });
  on("tick", (tick) => {
    take(tick);
    if (outage) back(count.received - outage.received);
    show();
  });
  on("goodbye", ({ reason }) => lost(reason === "stopping" ? "The instance is stopping" : reason));
  s.onerror = () => {
    if (s !== source) return;
    lost("The connection was lost");
    // Else the browser tries again by itself, and says what it saw last.
    if (s.readyState === EventSource.CLOSED) setTimeout(() => s === source && connect(), AGAIN_MS * (0.7 + 0.6 * Math.random()));
  };
}

// expect begins anew when the stream is silent for too long: a network that went
// away does not say so.
function expect() {
  clearTimeout(watch);
  watch = setTimeout(() => { lost("Nothing was heard for too long"); connect(); }, SILENCE_MS);
}

addEventListener("online", () => source?.readyState !== EventSource.OPEN && connect());
show();
connect();
