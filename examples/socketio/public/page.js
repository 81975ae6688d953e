// The page of one session: what it counts, where it is, and what became of it.

const LINES_MAX = 200; // lines in the log

const $ = (id) => document.getElementById(id);
const polling = new URLSearchParams(location.search).has("polling");
$("polling").checked = polling;
$("polling").onchange = () => (location.search = $("polling").checked ? "?polling" : "");

// io is socket.io's client, which the server brings along.
const socket = io(polling ? { transports: ["polling"] } : {});
let sessions = 0;

socket.on("connect", () => {
  $("state").dataset.state = "open";
  $("state").textContent = "connected";
  $("session").textContent = socket.io.engine.id;
  $("transport").textContent = socket.io.engine.transport.name;
  socket.io.engine.on("upgrade", (transport) => {
    $("transport").textContent = transport.name;
    note(`the session went over to ${transport.name}`);
  });
  $("sessions").textContent = ++sessions;
  if (sessions > 1) note("a new session: what the old one counted is gone");
  $("count").textContent = 0;
});

socket.on("welcome", ({ instance, history }) => {
  $("instance").textContent = instance;
  note(`on ${instance}`);
  if (sessions === 1) history.forEach((text) => line(text));
});

socket.on("said", (text) => line(text));

socket.on("disconnect", (reason) => lost(`the session ended: ${reason}`));
socket.on("connect_error", (err) => lost(`no connection: ${err.context?.responseText || err.message}`));

function lost(why) {
  $("state").dataset.state = "waiting";
  $("state").textContent = socket.active ? "coming back…" : "disconnected";
  note(why);
}

$("form").onsubmit = (event) => {
  event.preventDefault();
  if (!socket.connected) return; // kept in the box until there is a session
  socket.emit("say", $("text").value, ({ count }) => ($("count").textContent = count));
  $("text").value = "";
};

function note(text) {
  line(text, "note");
}

function line(text, kind = "") {
  const li = document.createElement("li");
  li.className = kind;
  li.textContent = text;
  $("log").append(li);
  while ($("log").childElementCount > LINES_MAX) $("log").firstChild.remove();
  $("log").scrollTop = $("log").scrollHeight;
}
