"""A ticker: prices, pushed to pages as server-sent events, from any instance.

Every second is a tick, and its number is the second's. Every instance knows the
prices of the last tick and would make the next ones; whose come first over the
bus are everybody's. So there is no leader to lose, all instances have the same
ticks under the same numbers, and a page that lost one goes on with any other
after the last number it saw. ticks.py keeps them, goods.py is a market of sorts,
bus.py carries. Start reading at stream(), then heard().
"""

import datetime
import json
import logging
import os
import random
import signal
import time
import uuid

import gevent
from flask import Flask, Response, request

import bus
import goods
from ticks import Ticks

TICK_SECONDS = 1.0
JITTER_SECONDS = 0.25  # who makes a tick is left to chance; the others see it and need not
CATCH_UP_SECONDS = 1.0  # the other instances answer within that, or there are none
PING_SECONDS = 5  # when there are no ticks: lets a page notice a connection that died silently
STREAMS_MAX = 900  # below gunicorn's 1,000 connections a worker, so that pages still load
RETRY_MS = 300  # a page that lost its stream tries again so soon

app = Flask(__name__, static_url_path="")
log = logging.getLogger("gunicorn.error")

# App Engine tells an app who it is in its environment.
IDENTITY = {
    "service": os.environ.get("GAE_SERVICE", "default"),
    "version": os.environ.get("GAE_VERSION", "local"),
    "instance": os.environ.get("GAE_INSTANCE", "local-" + uuid.uuid4().hex[:8]),
    "since": datetime.datetime.now(datetime.timezone.utc).isoformat(),
}

# All greenlets run in one thread and change over only where they wait.
ticks = Ticks()
streams = 0  # open ones
stopping = False


# ---- What instances tell each other ----


def tell(**envelope):
    """Tells every instance, this one too, and how many heard it. Without a bus
    this instance is all there are."""
    envelope["from"] = IDENTITY["instance"]
    if shared is None:
        heard(envelope)
        return 1
    return shared.publish(envelope)


def heard(envelope):
    """What an instance told. It may have been this one."""
    if "tick" in envelope:
        ticks.hear(envelope["tick"], envelope["prices"])
    if envelope["from"] == IDENTITY["instance"]:
        return
    if "ask" in envelope:
        tell(kept=ticks.after(envelope["ask"]))
    if "kept" in envelope:
        ticks.catch_up(envelope["kept"])


def subscribed():
    """Asks the others what was missed: at the start, and when the bus was away.
    Until they have answered, new ticks wait."""
    ticks.hold()

    def ask():
        if tell(ask=ticks.last) > 1:
            gevent.sleep(CATCH_UP_SECONDS)
        ticks.catch_up([])

    gevent.spawn(ask)


def make_ticks():
    """Makes each tick that no other instance was quicker to make."""
    while True:
        now = time.time()
        gevent.sleep(TICK_SECONDS - now % TICK_SECONDS + random.uniform(0, JITTER_SECONDS))
        number = int(time.time() // TICK_SECONDS)
        if not ticks.held and ticks.last < number:
            tell(tick=number, prices=goods.move(ticks.prices()))


# ---- What pages see ----


@app.route("/ticks")
def stream():
    """Ticks without end. A page says which was the last one it saw: EventSource
    does so by itself in Last-Event-ID, the page in ?after= when it begins anew."""
    if stopping or streams >= STREAMS_MAX:
        return "come back in a moment\n", 503, {"Retry-After": "1"}
    last = request.headers.get("Last-Event-ID") or request.args.get("after", "")
    last = int(last) if last.isascii() and last.isdigit() and len(last) < 16 else 0
    return Response(events(last), mimetype="text/event-stream", headers={"Cache-Control": "no-cache"})


def events(last):
    global streams
    streams += 1
    try:
        yield f"retry: {RETRY_MS}\n" + event("hello", {**IDENTITY, "goods": goods.NAMES})
        if not ticks.has_all_after(last):
            # A newcomer, or somebody who was away for longer than is kept.
            # Everything there is, as one event: charts want a past.
            kept = ticks.after(0)
            last = ticks.last
            yield event("kept", kept, last)
        while not stopping:
            changed = ticks.changed
            for tick in ticks.after(last):
                # A page that reads slowly waits here and costs nothing more: what
                # it has not seen is kept once for all pages.
                yield event("tick", tick, tick["tick"])
                last = tick["tick"]
            if not changed.wait(PING_SECONDS):
                yield ": nothing new\n\n"
        yield event("goodbye", {"reason": "stopping"})
    finally:
        streams -= 1


def event(name, data, id=None):
    return (f"id: {id}\n" if id else "") + f"event: {name}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n"


@app.route("/")
def index():
    return app.send_static_file("index.html")


@app.after_request
def headers(response):
    response.headers.setdefault("Cache-Control", "no-cache")
    response.headers["Content-Security-Policy"] = "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'"
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response


@app.route("/healthz")
def healthz():
    if stopping or ticks.held:
        return "stopping\n" if stopping else "catching up\n", 503
    return "ok\n"


def goodbye_on_sigterm():
    """Lets SIGTERM end the streams first. gunicorn then stops as ever: it waits
    for what is open, as long as gunicorn.conf.py says."""
    then = signal.getsignal(signal.SIGTERM)

    def goodbye(signum, frame):
        global stopping
        stopping = True
        ticks.wake()
        if callable(then):
            then(signum, frame)
        else:
            raise SystemExit(0)

    signal.signal(signal.SIGTERM, goodbye)


goodbye_on_sigterm()
shared = bus.connect("ticker", heard, subscribed)  # None without REDIS_URL: alone
if shared:
    ticks.hold()
    gevent.spawn(shared.run)
    gevent.spawn_later(2 * CATCH_UP_SECONDS, ticks.catch_up, [])  # also if the bus is away
gevent.spawn(make_ticks)
