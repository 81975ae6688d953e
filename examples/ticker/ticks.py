"""The last ticks, the same ones under the same numbers on every instance."""

from gevent.event import Event

KEPT = 600  # ticks: who was away for less than ten minutes misses nothing


class Ticks:
    def __init__(self):
        self.kept = []  # [{"tick", "before", "prices"}], at most KEPT, oldest first
        self.waiting = []  # heard while held
        self.held = False
        self.changed = Event()  # set, and another one put in place, at each tick

    @property
    def last(self):
        return self.kept[-1]["tick"] if self.kept else 0

    def prices(self):
        return self.kept[-1]["prices"] if self.kept else {}

    def hear(self, number, prices):
        """Takes a tick that came over the bus, unless that number was taken. All
        instances hear all in one order, so they take the same ones."""
        if self.held:
            self.waiting.append((number, prices))
            del self.waiting[:-KEPT]
        elif number > self.last:
            # With the number of the one before, a page can tell that it has all.
            self.kept.append({"tick": number, "before": self.last, "prices": prices})
            del self.kept[:-KEPT]
            self.wake()

    def hold(self):
        """Keeps new ticks waiting until it is known which came before them."""
        self.held = True

    def catch_up(self, missed):
        """Puts what another instance kept before what waits, and goes on."""
        if not self.held:
            return
        self.held = False
        newer = [tick for tick in missed if tick["tick"] > self.last]
        self.kept.extend(newer)
        del self.kept[:-KEPT]
        waiting, self.waiting = self.waiting, []
        for number, prices in waiting:
            self.hear(number, prices)
        self.wake()

    def after(self, last):
        """The kept ticks after that number."""
        return [tick for tick in self.kept if tick["tick"] > last]

    def has_all_after(self, last):
        """Tells whether nothing after that number has been forgotten, or never
        been known here. A page may be ahead of an instance that has just begun."""
        return last > 0 and (not self.kept or self.kept[0]["before"] <= last)

    def wake(self):
        self.changed.set()
        self.changed = Event()
