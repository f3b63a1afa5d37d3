"""The share of a queue that may be unsettled, so that all of it is done in good time.

RabbitMQ counts from the delivery, not from the call of the handler, and ends a channel on which
one delivery is unsettled for too long. What waits here for a slow handler comes close to that
and gains nothing, so a slow handler has two bulks: one at work, and one for when it is done.
"""

from __future__ import annotations

from math import inf

#: Seconds of work that may be unsettled; more hides no latency of any broker.
HELD = 2.0
#: The part of the broker's patience that it may be, where order asks for more than that.
PART = 4
#: Seconds between two changes; the first comes as soon as the pace is known.
PAUSE_S = 1.0


class Pace:
    """The deliveries of one queue that may be unsettled, by the pace of its handlers."""

    def __init__(
        self, bulk: int, slots: int, most: int, sharers: int = 1, *, ordered: bool
    ) -> None:
        self.slots = slots  #: bulks at once, in all processes
        self.most = most  #: the prefetch
        self._bulk = bulk
        self.sharers = sharers  #: queues whose bulks take turns in these slots
        self.ordered = ordered  #: the more is in view, the more keys are worked on at once
        self.cost: float | None = None  #: seconds of a slot for a delivery, learnt
        self._changed = -inf

    def __str__(self) -> str:
        if self.cost is None:
            return "its handlers have not answered yet"
        return f"its handlers take {self.cost:.2g} s a message, {self.slots} at once"

    @property
    def least(self) -> int:
        """Two bulks for each slot."""
        return min(self.most, 2 * self._bulk * self.slots)

    def first(self, patience: float) -> int:
        """The window that a queue is consumed with, before it is widened."""
        return self.most if patience == inf else self.least

    def alone(self, patience: float) -> int:
        """The window of a queue that cannot be widened: one with a single active consumer.

        What no handler has begun in time goes back, but not where that would break an order.
        """
        return self.wanted(patience) if self.ordered else self.most

    def learn(self, deliveries: int, seconds: float) -> None:
        """Learn from the time that handlers took for some deliveries."""
        if deliveries:
            cost = max(1e-6, seconds / deliveries)
            self.cost = cost if self.cost is None else self.cost + (cost - self.cost) / 4

    def begun_within(self, patience: float) -> float:
        """The age at which a delivery that no handler has begun goes back to its queue.

        Half of the patience is left for its bulk; more, where the bulks of late took more.
        """
        takes = self._bulk * (self.cost or 0.0)
        return min(patience / 2, max(patience / PART, patience - takes))

    def wanted(self, patience: float) -> int:
        """The deliveries for a world that waits so many seconds for a settlement."""
        if patience == inf:
            return self.most
        if self.cost is None:
            return self.most if self.ordered else self.least
        held = patience / PART if self.ordered else min(HELD, patience / PART)
        fitting = held * self.slots / (self.cost * self.sharers)
        return self.most if fitting >= self.most else max(self.least, int(fitting))

    def change(self, window: int, unsettled: int, patience: float, now: float) -> int:
        """What the window in force is to become; the same where a change is not worth it.

        It changes by no less than half, and from a wider one to the least at first, once
        that is all there is: so never more is unsettled than a window allows.
        """
        wanted = self.wanted(patience)
        if wanted == window or now < self._changed + PAUSE_S:
            return window
        if window > self.least:
            if window // 2 < wanted < min(2 * window, self.most):
                return window
            wanted = self.least
        elif unsettled > window or (wanted < 2 * window and wanted < self.most):
            return window
        self._changed = now
        return wanted
