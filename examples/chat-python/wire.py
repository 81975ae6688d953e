"""What Flask-Sockets 0.2.1 and gevent-websocket 0.10.1 leave to be done."""

import struct
import urllib.parse

import flask_sockets
import gevent.lock
from geventwebsocket.exceptions import WebSocketError
from werkzeug.routing import Rule, WebsocketMismatch

MESSAGE_MAX = 1 << 20  # bytes of one message with all its fragments, and of pings before it


class Sockets(flask_sockets.Sockets):
    """Flask-Sockets' own class, fit for Werkzeug 2 and newer.

    There, a rule says whether it is for WebSockets, and a request with an
    Upgrade header only matches the rules that are. Flask-Sockets does not say
    it, so its routes match nothing; and as the server has answered 101 by
    then, the socket is cut without a frame. Hence websocket=True for the rule;
    the request's side, matching with websocket=True, is what Werkzeug itself
    concludes from the Upgrade header.
    """

    def add_url_rule(self, rule, _, f, **options):
        self.url_map.add(Rule(rule, endpoint=f, websocket=True))

    def init_app(self, app):
        super().init_app(app)
        inner = app.wsgi_app

        def middleware(environ, start_response):
            try:
                return inner(environ, start_response)
            except WebsocketMismatch as refusal:  # a plain GET of a socket's path
                return refusal(environ, start_response)

        app.wsgi_app = middleware


def one_writer_at_a_time(ws):
    """Keeps the answer to a ping out of the middle of another frame: two
    greenlets write to a socket, and a long write lets others run."""
    write, turn = ws.raw_write, gevent.lock.BoundedSemaphore()

    def write_alone(data):
        with turn:
            write(data)

    ws.raw_write = write_alone


def receive(ws):
    """The next message, None when the socket ended. Ends the socket over a
    message of more than MESSAGE_MAX; the library itself takes any."""
    read, left = ws.raw_read, MESSAGE_MAX

    def counted(size):
        nonlocal left
        left -= size
        if left < 0:
            close(ws, 1009, "message too big")
            raise ValueError("message too big")  # ends ws.receive()
        return read(size)

    ws.raw_read = counted
    try:
        return ws.receive()
    except (WebSocketError, OSError):
        return None
    finally:
        if not ws.closed:
            ws.raw_read = read


def close(ws, code, reason):
    """Sends a Close frame. The library's own close() leaves the code out."""
    ws.send_frame(struct.pack("!H", code) + reason.encode(), ws.OPCODE_CLOSE)
    ws.closed = True  # so that the library does not send a second one


def same_origin(environ):
    """Tells whether the page that opened the socket came from this host, so
    that another site's page cannot speak in a visitor's name. Programs send no
    Origin and pass."""
    origin = environ.get("HTTP_ORIGIN")
    return origin is None or urllib.parse.urlsplit(origin).netloc == environ.get("HTTP_HOST")
