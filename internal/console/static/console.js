// What a page needs besides HTML: it is kept true over a WebSocket, draws its
// charts, and asks before something is done without leaving.
import { morph } from "./morph.js";
import { draw } from "./charts.js";
import { layAll } from "./split.js";
import * as tail from "./tail.js";

const live = document.querySelector(".live");

function say(state, text) {
  if (!live || live.dataset.state === state) return;
  live.dataset.state = state;
  live.querySelector(".live-text").textContent = text;
}

// follow keeps the page true. It comes back by itself, later each time.
function follow(wait = 500) {
  const at = document.body.dataset.live;
  if (!at) return;
  const socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/console/live`);
  // A log goes on where it was cut off.
  const after = tail.follows ? tail.latest() : "";
  socket.onopen = () => socket.send(after ? `${at}&after=${encodeURIComponent(after)}` : at);
  socket.onmessage = (message) => {
    say("on", "Live");
    wait = 500;
    const news = JSON.parse(message.data);
    if (news.tail) tail.take(news.tail);
    for (const [name, html] of Object.entries(news.regions ?? {})) {
      const region = document.querySelector(`[data-region="${name}"]`);
      if (region && !region.contains(document.querySelector("[data-held]"))) morph(region, html);
    }
    for (const chart of news.charts ?? []) {
      const plot = document.getElementById(chart.ID);
      if (plot) draw(plot, chart);
    }
    drawAll();
    layAll();
  };
  socket.onclose = (event) => {
    if (event.code === 4401) return location.reload(); // the session has ended
    if (event.code === 1008) return say("off", event.reason === "" ? "Not live" : "Gone");
    say("lost", "Connecting…");
    setTimeout(follow, wait, Math.min(wait * 2, 10000));
  };
}

// drawAll draws the charts that are not drawn yet.
function drawAll() {
  for (const plot of document.querySelectorAll("[data-chart]:not([data-drawn])")) draw(plot, JSON.parse(plot.dataset.chart));
}

// ask shows a question that a form leads to without leaving the page.
async function ask(form, button) {
  const answer = await fetch(button?.hasAttribute("formaction") ? button.formAction : form.action, { method: "POST", body: new URLSearchParams(new FormData(form, button)) });
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const dialog = document.createElement("dialog");
  const card = page.querySelector("#ask") ?? page.querySelector(".card");
  if (!card) return location.reload();
  dialog.append(card);
  const title = card.querySelector("h1");
  title.id = "ask-title";
  dialog.setAttribute("aria-labelledby", "ask-title");
  dialog.addEventListener("click", (event) => {
    if (event.target.closest("[data-cancel]")) {
      event.preventDefault();
      dialog.close();
    }
  });
  dialog.addEventListener("close", () => { dialog.remove(); button?.focus(); });
  document.body.append(dialog);
  dialog.showModal();
}

document.addEventListener("submit", (event) => {
  if (!event.target.matches("[data-ask]")) return;
  event.preventDefault();
  ask(event.target, event.submitter);
});

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  const from = document.getElementById(button.dataset.copy);
  from.select();
  // Without TLS, and away from this machine, a browser has no clipboard for pages.
  await navigator.clipboard?.writeText(from.value);
  if (navigator.clipboard) button.textContent = "Copied";
});

// Shares that are dragged or typed stay until they are sent or taken back,
// whatever happens meanwhile.
document.addEventListener("input", (event) => {
  if (!event.target.matches("[data-share]")) return;
  event.target.form.dataset.held = "";
  layAll();
});
document.addEventListener("reset", (event) => {
  delete event.target.dataset.held;
  setTimeout(layAll); // once the values are back
});

document.querySelector(".theme")?.addEventListener("click", () => {
  const dark = document.documentElement.dataset.theme
    ? document.documentElement.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;
  document.documentElement.dataset.theme = dark ? "light" : "dark";
  localStorage.setItem("theme", document.documentElement.dataset.theme);
  dispatchEvent(new Event("theme"));
});

// On a phone the navigation is wider than the window.
document.querySelector("nav [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });

drawAll();
layAll();
follow();
