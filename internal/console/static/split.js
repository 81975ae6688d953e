// A bar whose parts are the shares of a form's versions: its handles are dragged,
// or moved by keys. The form's numbers stay what is sent.
const round = (n) => Math.round(n * 100) / 100;

// layAll draws the bars again after their numbers have changed.
export function layAll() {
  for (const bar of document.querySelectorAll("[data-split]")) lay(bar);
}

function lay(bar) {
  const inputs = [...bar.closest("form").querySelectorAll("[data-share]")];
  const shares = inputs.map((input) => Math.max(0, parseFloat(input.value) || 0));
  const sum = shares.reduce((a, b) => a + b, 0);
  const names = inputs.map((input) => input.dataset.share).join("\n");
  if (bar.dataset.names !== names) {
    bar.dataset.names = names;
    bar.replaceChildren(...inputs.map(part), ...inputs.slice(1).map((_, i) => handle(bar, i)));
  }
  let at = 0;
  shares.forEach((share, i) => {
    const width = sum > 0 ? (share / sum) * 100 : 0;
    const part = bar.children[i];
    part.style.left = `${at}%`;
    part.style.width = `${width}%`;
    part.textContent = width >= 12 ? `${inputs[i].dataset.share} ${round(width)} %` : "";
    at += width;
    const handle = bar.children[inputs.length + i];
    if (!handle) return;
    const next = sum > 0 ? (shares[i + 1] / sum) * 100 : 0;
    handle.style.left = `${at}%`;
    handle.setAttribute("aria-valuenow", Math.round(at));
    handle.setAttribute("aria-valuetext", `${inputs[i].dataset.share} ${round(width)} %, ${inputs[i + 1].dataset.share} ${round(next)} %`);
  });
}

function part(input) {
  const part = document.createElement("span");
  part.className = `part c${input.dataset.colour}`;
  part.setAttribute("aria-hidden", "true");
  return part;
}

function handle(bar, i) {
  const handle = document.createElement("span");
  const inputs = bar.closest("form").querySelectorAll("[data-share]");
  handle.className = "handle";
  handle.tabIndex = 0;
  for (const [name, value] of [["role", "slider"], ["aria-valuemin", 0], ["aria-valuemax", 100], ["aria-label", `Traffic between ${inputs[i].dataset.share} and ${inputs[i + 1].dataset.share}`]]) handle.setAttribute(name, value);
  handle.addEventListener("pointerdown", (event) => {
    event.preventDefault();
    handle.focus();
    handle.setPointerCapture(event.pointerId);
  });
  handle.addEventListener("pointermove", (event) => {
    if (!handle.hasPointerCapture(event.pointerId)) return;
    const box = bar.getBoundingClientRect();
    move(bar, i, Math.round(((event.clientX - box.left) / box.width) * 100));
  });
  handle.addEventListener("keydown", (event) => {
    const at = Number(handle.getAttribute("aria-valuenow"));
    const step = event.shiftKey ? 10 : 1;
    const to = { ArrowLeft: at - step, ArrowDown: at - step, ArrowRight: at + step, ArrowUp: at + step, PageDown: at - 10, PageUp: at + 10, Home: 0, End: 100 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    move(bar, i, to);
  });
  return handle;
}

// move puts a handle where it is wanted, and the others out of its way.
function move(bar, i, to) {
  const inputs = [...bar.closest("form").querySelectorAll("[data-share]")];
  to = Math.min(100, Math.max(0, to));
  const sum = inputs.reduce((sum, input) => sum + Math.max(0, parseFloat(input.value) || 0), 0);
  let at = 0;
  const ends = inputs.map((input) => (at += sum > 0 ? (Math.max(0, parseFloat(input.value) || 0) / sum) * 100 : 0));
  ends[ends.length - 1] = 100;
  const moved = ends.map((end, n) => (n === i ? to : n < i ? Math.min(end, to) : Math.max(end, to)));
  inputs.forEach((input, n) => (input.value = round(moved[n] - (n > 0 ? moved[n - 1] : 0))));
  inputs[0].dispatchEvent(new Event("input", { bubbles: true }));
}
