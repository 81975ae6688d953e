// A log that is followed: the latest line is the last, and in sight unless
// somebody has scrolled up. Then what comes waits.
const linesMax = 2000; // on the page
const waitingMax = 5000; // while somebody reads

const list = document.querySelector("[data-tail]");
let waiting = [];
let came = 0;
let skipped = 0;

export const follows = list !== null;

const items = (html) => {
  const t = document.createElement("template");
  t.innerHTML = html;
  return [...t.content.children];
};

const atEnd = () => list.scrollHeight - list.scrollTop - list.clientHeight < 24;

// latest is when the last line that this page has was written, "" for none.
export function latest() {
  let last = "";
  for (const line of [...list.querySelectorAll("li[data-key]"), ...waiting]) {
    const at = line.querySelector?.("time")?.dateTime ?? "";
    if (at > last) last = at;
  }
  return last;
}

function gap(n) {
  const line = document.createElement("li");
  line.className = "gap";
  line.textContent = `${n} lines were skipped here: they came faster than a page shows them. A search finds them.`;
  return line;
}

// take takes in what has come.
export function take(news) {
  let lines = items(news.html);
  if (news.first) {
    const known = new Set([...list.children, ...waiting].map((line) => line.dataset.key));
    lines = lines.filter((line) => !known.has(line.dataset.key));
  }
  came += lines.length;
  if (news.skipped) {
    skipped += news.skipped;
    lines.unshift(gap(news.skipped));
  }
  if (waiting.length > 0 || !atEnd()) waiting.push(...lines);
  else show(lines);
  if (waiting.length > waitingMax) {
    const over = waiting.splice(0, waiting.length - waitingMax + 1).filter((line) => line.dataset.key).length;
    skipped += over;
    waiting.unshift(gap(over));
  }
  say();
}

function show(lines) {
  list.append(...lines.slice(-linesMax));
  while (list.children.length > linesMax) list.firstChild.remove();
  list.scrollTop = list.scrollHeight;
}

function say() {
  const text = [`${came} ${came === 1 ? "line" : "lines"}`];
  if (skipped) text.push(`${skipped} skipped`);
  if (waiting.length) text.push(`${waiting.length} below, which wait while you read`);
  document.querySelector("[data-tail-said]").textContent = text.join(", ");
  document.querySelector("[data-tail-end]").hidden = waiting.length === 0 && atEnd();
}

function toEnd() {
  const lines = waiting;
  waiting = [];
  show(lines);
  say();
}

if (list) {
  list.addEventListener("scroll", () => {
    if (waiting.length && atEnd()) toEnd();
    else say();
  });
  document.querySelector("[data-tail-end]").addEventListener("click", toEnd);
  // A window that changes its size leaves the latest line in sight.
  let end = true;
  list.addEventListener("scroll", () => (end = atEnd()), { passive: true });
  new ResizeObserver(() => end && toEnd()).observe(list);
}
