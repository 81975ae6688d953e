"""What instances tell each other, over a bus that speaks Redis.

The bus keeps nothing: who is not subscribed when something is published asks the
others for it later. All instances get all of it in the same order.
"""

import json
import logging
import os

import gevent
import redis

RETRY_SECONDS = 0.5  # before another attempt to subscribe
WAIT_SECONDS = 2  # for a connection and for an answer; then the bus is away
PUBLISHERS_MAX = 10  # connections to publish over; who finds none free waits for one

log = logging.getLogger("gunicorn.error")


def connect(name, heard, subscribed):
    """The bus that the environment names, or None."""
    url = os.environ.get("REDIS_URL")
    return Bus(url, os.environ.get("REDIS_PREFIX", "") + name, heard, subscribed) if url else None


class Bus:
    """One channel. heard() gets every envelope; subscribed() is called whenever
    the bus was found, at the start and after each time it was away, before what
    came since. Nothing more is heard until they return."""

    def __init__(self, url, channel, heard, subscribed):
        pool = redis.BlockingConnectionPool.from_url(
            url, max_connections=PUBLISHERS_MAX, timeout=WAIT_SECONDS, socket_connect_timeout=WAIT_SECONDS, socket_timeout=WAIT_SECONDS
        )
        self.publisher = redis.Redis(connection_pool=pool)
        self.subscriber = redis.Redis.from_url(url, socket_connect_timeout=WAIT_SECONDS)
        self.channel, self.heard, self.subscribed = channel, heard, subscribed

    def publish(self, envelope):
        """Tells every instance, and how many heard it: 0 if the bus is away."""
        try:
            return self.publisher.publish(self.channel, json.dumps(envelope))
        except (redis.RedisError, OSError) as err:
            log.warning("bus: not published: %s", err)
            return 0

    def run(self):
        """Listens for ever."""
        while True:
            try:
                subscription = self.subscriber.pubsub()
                subscription.subscribe(self.channel)
                for m in subscription.listen():
                    if m["type"] == "subscribe":
                        log.info("bus: on %s", self.channel)
                        self.subscribed()
                    elif m["type"] == "message":
                        self.take(m["data"])
            except (redis.RedisError, OSError) as err:
                log.warning("bus: %s", err)
            gevent.sleep(RETRY_SECONDS)

    def take(self, data):
        try:
            self.heard(json.loads(data))
        except (ValueError, KeyError, TypeError) as err:  # not ours; the next one may be
            log.warning("bus: not understood: %r", err)
