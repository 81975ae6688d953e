"""Flask-SocketIO on several instances, as its documentation has it: everything
that is emitted goes through the message queue, and so over the bus."""

import os

from flask import Flask
from flask_socketio import SocketIO, emit

app = Flask(__name__)
socketio = SocketIO(
    app,
    async_mode="gevent",
    async_handlers=False,  # what one client says stays in its order
    message_queue=os.environ["REDIS_URL"],
    channel=os.environ["REDIS_PREFIX"] + "flask-socketio",
)


@socketio.on("connect")
def connect(auth):
    # Past the queue: to the first one who comes, the instance has not subscribed yet.
    emit("welcome", {"instance": os.environ["GAE_INSTANCE"]}, ignore_queue=True)


@socketio.on("say")
def say(message):
    socketio.emit("message", message)
