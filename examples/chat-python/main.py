"""A chat over WebSockets with Flask and Flask-Sockets, under gunicorn.

It has the shape of App Engine's own WebSockets sample: one socket route, the
people of an instance kept in the memory of its one process. bus.py carries what
is said between instances, wire.py holds what Flask-Sockets needs to work with
today's Werkzeug. Start reading at chat(), then heard().
"""

import collections
import datetime
import json
import logging
import os
import signal
import time
import uuid

import gevent
from flask import Flask, render_template
from gevent.queue import Empty, Full, Queue
from geventwebsocket.exceptions import WebSocketError

import bus
import wire

HISTORY_MAX = 100  # messages a newcomer sees
SEEN_MAX = 2000  # message ids remembered, to know a repeated one
PEOPLE_MAX = 900  # below gunicorn's 1,000 connections a worker, so that pages still load
QUEUE_MAX = 256  # frames waiting for one slow reader before it is dropped
TEXT_MAX = 2000  # characters in a message
NAME_MAX = 32  # characters in a name
ID_MAX = 80  # characters in a message id
NAMES_MAX = 50  # names told to everybody; beyond it only the count is
TICK_SECONDS = 10  # lets a page notice a connection that died silently
PEOPLE_SECONDS = 0.2  # many who come at once are told of at once
HELLO_SECONDS = 10  # a page says its name at once
WRITE_SECONDS = 10  # a reader that takes nothing for so long is gone
BEAT_SECONDS = 2  # an instance tells the others so often who is there
GONE_SECONDS = 6  # one that says nothing for so long is gone
ANSWER_SECONDS = 1  # the other instances answer within that

app = Flask(__name__)
sockets = wire.Sockets(app)
log = logging.getLogger("gunicorn.error")


def now():
    return datetime.datetime.now(datetime.timezone.utc).isoformat().replace("+00:00", "Z")


# App Engine tells an app who it is in its environment.
IDENTITY = {
    "service": os.environ.get("GAE_SERVICE", "default"),
    "version": os.environ.get("GAE_VERSION", "local"),
    "instance": os.environ.get("GAE_INSTANCE", "local-" + uuid.uuid4().hex[:8]),
    "since": now(),
}

# All greenlets run in one thread and change over only where they wait. Nothing
# between two waits needs a lock: put_nowait, send() and hear() below never wait,
# and what does is shared.publish() alone.
people = set()
elsewhere = {}  # instance to who is there: {"names", "count", "at"}
history = []  # at most HISTORY_MAX, oldest first, of all instances
seen = collections.OrderedDict()  # message id to message
owing = False  # something was said that the other instances did not hear
settled = False  # what the other instances know is known here
stopping = False
telling = False  # tell_people() is on its way


class Person:
    """One open socket: what waits to be written to it, and why it has to go."""

    def __init__(self, ws, name):
        self.ws = ws
        self.name = name
        self.queue = Queue(QUEUE_MAX)
        self.leave = None  # (code, reason) once it has to go

    def send(self, **frame):
        try:
            self.queue.put_nowait(json.dumps(frame))
        except Full:
            # One slow reader must neither stop the others nor cost memory
            # without end. On coming back it gets the history.
            self.go(1013, "too-slow")

    def go(self, code, reason):
        if self.leave is None:
            self.leave = (code, reason)
            if self.queue.empty():
                self.queue.put_nowait(None)  # wakes write()

    def write(self):
        """Writes what is queued; the one greenlet that writes to this socket."""
        try:
            while self.leave is None:
                try:
                    frame = self.queue.get(timeout=TICK_SECONDS)
                except Empty:
                    frame = json.dumps({"type": "tick"})
                if frame is not None and self.leave is None:
                    with gevent.Timeout(WRITE_SECONDS):
                        self.ws.send(frame)
            with gevent.Timeout(WRITE_SECONDS):
                wire.close(self.ws, *self.leave)
            log.info("closed %r: %d %s", self.name, *self.leave)
        except (WebSocketError, OSError, AttributeError, TypeError, gevent.Timeout):
            # The library forgets its stream on closing, so a closed socket
            # also shows as an AttributeError or a TypeError.
            pass


def everybody(**frame):
    for person in list(people):
        person.send(**frame)


def tell_people():
    """Tells everybody soon who is here; calls meanwhile are one with this."""
    global telling

    def soon():
        global telling
        telling = False
        everybody(type="people", **who())
        tell(people=here())

    if not telling:
        telling = True
        gevent.spawn_later(PEOPLE_SECONDS, soon)


def here():
    """Who is on this instance."""
    return {"names": [p.name for p in list(people)[:NAMES_MAX]], "count": len(people)}


def who():
    """Who is on any, as far as the others said so."""
    everywhere = [here(), *elsewhere.values()]
    names = [name for there in everywhere for name in there["names"]]
    return {"names": sorted(names[:NAMES_MAX]), "count": sum(there["count"] for there in everywhere)}


def say(person, id, text):
    """Tells everybody, unless the message is known: then its sender alone, who
    asks again because it did not hear the first answer."""
    global owing
    text = text.strip()
    if not id or len(id) > ID_MAX:
        return person.send(type="refused", id=id, why="a message needs an id of at most 80 characters")
    if not text:
        return person.send(type="refused", id=id, why="a message needs some text")
    if len(text) > TEXT_MAX:
        return person.send(type="refused", id=id, why="a message has at most 2000 characters")
    if id in seen:
        return person.send(type="message", message=seen[id])
    message = {"id": id, "name": person.name, "text": text, "at": now()}
    # Every instance hears it from the bus, this one too: so all have the same
    # order, and what a page sees as sent is known wherever it may come back to.
    if shared is None:
        hear(message)
    elif not tell(said=message):
        hear(message)  # who is here, at least; the others by the next exchange
        owing = True


def hear(message):
    """Remembers and shows a message, once."""
    if message["id"] in seen:
        return
    seen[message["id"]] = message
    if len(seen) > SEEN_MAX:
        seen.popitem(last=False)
    history.append(message)
    history.sort(key=lambda m: m["at"])  # nearly always is; not so what another instance tells later
    del history[:-HISTORY_MAX]
    everybody(type="message", message=message)


def tell(**envelope):
    """Tells every instance, this one too, and how many heard it."""
    return shared.publish({"from": IDENTITY["instance"], **envelope}) if shared else 0


def exchange():
    """Tells what was heard here lately and asks for the same: so an instance
    that begins, or was away from the bus, and the others come to the same."""
    global owing
    owing = False
    if tell(ask=True, recent=history, people=here()) > 1:
        gevent.sleep(ANSWER_SECONDS)
    settle()


def settle():
    global settled
    settled = True


def heard(envelope):
    """What an instance told. It may have been this one."""
    if "said" in envelope:
        hear(envelope["said"])
    if envelope["from"] == IDENTITY["instance"]:
        return
    for message in envelope.get("recent", []):
        hear(message)
    if "recent" in envelope and "ask" not in envelope:
        settle()
    if "people" in envelope:
        elsewhere[envelope["from"]] = {**envelope["people"], "at": time.monotonic()}
        everybody(type="people", **who())
    if envelope.get("ask"):
        tell(recent=history, people=here())


def beat():
    """Says again and again who is here, and forgets instances that do not."""
    while True:
        gevent.sleep(BEAT_SECONDS)
        gone = [i for i, there in elsewhere.items() if time.monotonic() - there["at"] > GONE_SECONDS]
        for instance in gone:
            del elsewhere[instance]
        if gone:
            everybody(type="people", **who())
        exchange() if owing else tell(people=here())


def tidy(name):
    """Makes anything a name: one line, printable, short."""
    name = "".join(c if c.isprintable() else " " for c in name)
    return " ".join(name.split())[:NAME_MAX].strip() or "Somebody"


def receive(ws):
    """The next frame's fields, all of them strings; None when the socket ended."""
    raw = wire.receive(ws)
    if raw is None:
        return None
    try:
        frame = json.loads(raw)
    except (ValueError, RecursionError):
        frame = None  # not ours; passed over
    fields = frame if isinstance(frame, dict) else {}
    return {k: fields[k] if isinstance(fields.get(k), str) else "" for k in ("type", "name", "id", "text")}


@sockets.route("/chat")
def chat(ws):
    """One person's stay: returns when the socket has ended."""
    if not wire.same_origin(ws.environ):
        return wire.close(ws, 1008, "another site's page")
    wire.one_writer_at_a_time(ws)
    hello = None
    with gevent.Timeout(HELLO_SECONDS, False):
        hello = receive(ws)
    if hello is None or hello["type"] != "hello":
        return wire.close(ws, 1008, "say hello first")
    if stopping:
        return wire.close(ws, 1001, "stopping")
    if len(people) >= PEOPLE_MAX:
        return wire.close(ws, 1013, "full")

    person = Person(ws, tidy(hello["name"]))
    people.add(person)
    person.send(type="welcome", history=history, **IDENTITY, **who())
    tell_people()
    writer = gevent.spawn(person.write)
    try:
        while (frame := receive(ws)) is not None:
            if frame["type"] == "say":
                say(person, frame["id"], frame["text"])
            elif frame["type"] == "name":
                person.name = tidy(frame["name"])
                tell_people()
            gevent.sleep(0)  # a busy sender lets the writers have their turn
    finally:
        people.discard(person)
        tell_people()
        writer.kill()


@app.route("/")
def index():
    return render_template("index.html"), {"Cache-Control": "no-cache"}


@app.route("/healthz")
def healthz():
    # Who comes to a new instance finds what was said before it began.
    if stopping or not settled:
        return "stopping\n" if stopping else "catching up\n", 503
    return "ok\n"


def goodbye_on_sigterm():
    """Lets SIGTERM say goodbye first. gunicorn then stops as ever: it waits for
    what is open, as long as gunicorn.conf.py says. Without this it would wait
    for the sockets and then cut them unannounced."""
    then = signal.getsignal(signal.SIGTERM)

    def goodbye(signum, frame):
        global stopping
        stopping = True
        for person in list(people):
            person.go(1001, "stopping")
        gevent.spawn(tell, people={"names": [], "count": 0})
        if callable(then):
            then(signum, frame)
        else:
            raise SystemExit(0)

    signal.signal(signal.SIGTERM, goodbye)


goodbye_on_sigterm()

# Without REDIS_URL this instance is alone.
shared = bus.connect("chat", heard, lambda: gevent.spawn(exchange))
if shared:
    gevent.spawn(shared.run)
    gevent.spawn(beat)
    gevent.spawn_later(2 * ANSWER_SECONDS, settle)  # also if the bus is away
else:
    settle()
