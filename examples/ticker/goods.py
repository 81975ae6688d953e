"""A market of sorts. Put your own feed here: whatever knows the next prices."""

import random

NAMES = {
    "KELP": "Kelp, dried",
    "ROPE": "Rope, hemp",
    "SALT": "Sea salt",
    "TARR": "Pine tar",
    "COPR": "Copper sheet",
    "AMBR": "Amber, raw",
}
START = {"KELP": 12.40, "ROPE": 48.15, "SALT": 6.85, "TARR": 21.60, "COPR": 97.30, "AMBR": 183.00}  # a barrel

STEP = 0.004  # of the price: how far it usually moves in a tick
PULL = 0.004  # of the way back to where it started, so that years leave it near


def move(prices):
    """The prices after these, or the first ones."""
    if not prices:
        return dict(START)
    return {name: round(p * (1 + random.gauss(0, STEP)) + PULL * (START[name] - p), 2) for name, p in prices.items() if name in START}
