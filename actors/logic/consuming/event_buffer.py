"""The events of one stream from arrival to settlement: kept here, for nobody gives them twice."""

from __future__ import annotations

import heapq
import re
from collections import OrderedDict, deque
from collections.abc import Iterator
from typing import NamedTuple

#: Bytes of an id that a server will be asked to resume from.
LONGEST_ID = 4096

# RFC 9110, field-value: no control characters, no space at either end.
_FIELD_VALUE = re.compile(r"[^\x00-\x20\x7f](?:[^\x00-\x08\x0a-\x1f\x7f]*[^\x00-\x20\x7f])?")


class Checkpoint:
    """Moves over the contiguous prefix of settled events, and over nothing else.

    What was settled beyond a gap waits for the gap: after a restart the stream is asked
    for everything after `id`, so no event that is still open may lie before it.
    """

    def __init__(self, id: str = "") -> None:
        self.id = id  #: of the last event of the settled prefix
        self._open: deque[str] = deque()
        self._first = 1  #: the number of the first open event
        self._settled: set[int] = set()

    def __len__(self) -> int:
        """Events from the first open one on, those settled beyond it included."""
        return len(self._open)

    def receive(self, id: str) -> int:
        """The next event of the stream has come; its number, counted from 1."""
        self._open.append(id)
        return self._first + len(self._open) - 1

    def settle(self, number: int) -> None:
        """This event needs no more; said twice, it means nothing."""
        if number < self._first:
            return
        self._settled.add(number)
        while self._first in self._settled:
            self._settled.remove(self._first)
            self._first += 1
            self.id = self._open.popleft()


def resumable(id: str) -> bool:
    """Can this id be sent in `Last-Event-ID`?"""
    return len(id.encode()) <= LONGEST_ID and (not id or bool(_FIELD_VALUE.fullmatch(id)))


def gap(asked: str, first: str) -> str:
    """What is odd about the first id of a stream that was asked to resume; "" for nothing.

    Only numbers tell: of other ids nobody knows which one follows.
    """
    if not (asked.isdecimal() and first.isdecimal() and len(asked) < 20 and len(first) < 20):
        return ""
    before, after = int(asked), int(first)
    if after <= before:
        return f"asked for what follows id {asked}, it began again at {first}"
    if after > before + 1:
        return f"asked for what follows id {asked}, it went on at {first}"
    return ""


#: Events between the checkpoint and the newest one, settled ones included: what a restart
#: of the process may repeat, and the memory that an event which is never settled may cost.
LONGEST_GAP = 100_000

#: Bytes after which a hand-out is full: it travels as one message.
CHUNK = 4 * 1024 * 1024

#: Events of earlier connections that are known again.
SEEN = 10_000


class Kept(NamedTuple):
    """An event that is not settled; ordered as it came."""

    number: int  #: in the checkpoint
    raw: bytes
    attempts: int = 0  #: hand-outs before


class EventBuffer:
    """Hands kept events out under receipts `(epoch, position)` and takes settlements back."""

    def __init__(self, resume_from: str = "") -> None:
        self.checkpoint = Checkpoint(resume_from)
        self.epoch = 0
        self._window = 0
        self._position = 0
        self._waiting: list[Kept] = []  # a heap: what comes back goes before what is new
        self._delayed: list[tuple[float, Kept]] = []  # a heap by due time
        self._out: dict[int, Kept] = {}  # by position

    def begin(self, epoch: int, window: int) -> None:
        """A new epoch: what was out may have been handled, and will be handed out again."""
        self.epoch, self._window, self._position = epoch, window, 0
        for kept in self._out.values():
            self._wait(kept._replace(attempts=kept.attempts + 1))
        self._out.clear()

    def arrive(self, id: str, raw: bytes) -> None:
        self._wait(Kept(self.checkpoint.receive(id), raw))

    def pass_over(self, id: str) -> None:
        """An id that came without an event."""
        self.checkpoint.settle(self.checkpoint.receive(id))

    def hand_out(self, now: float) -> tuple[int, list[Kept]]:
        """What may go out now, `CHUNK` bytes or one event more, and the position of the first."""
        while self._delayed and self._delayed[0][0] <= now:
            self._wait(heapq.heappop(self._delayed)[1])
        first, size = self._position + 1, 0
        kept: list[Kept] = []
        while self._waiting and len(self._out) < self._window and size < CHUNK:
            one = heapq.heappop(self._waiting)
            self._position += 1
            self._out[self._position] = one
            size += len(one.raw)
            kept.append(one)
        return first, kept

    def settle(self, epoch: int, first: int, last: int) -> None:
        """These are done with, however it was decided."""
        for kept in self._take(epoch, first, last):
            self.checkpoint.settle(kept.number)

    def give_back(
        self, epoch: int, position: int, *, failed: bool, attempts: int | None = None
    ) -> None:
        """To be handed out again at once, as one handed out so often before; where nobody
        knows, only a failure counts."""
        for kept in self._take(epoch, position, position):
            self._wait(kept._replace(attempts=attempts or kept.attempts + failed))

    def postpone(self, epoch: int, position: int, until: float, attempts: int) -> None:
        """To be handed out again, not before `until`, as one handed out so often before."""
        for kept in self._take(epoch, position, position):
            heapq.heappush(self._delayed, (until, kept._replace(attempts=attempts)))

    def held(self, epoch: int, position: int) -> Kept | None:
        return self._out.get(position) if epoch == self.epoch else None

    @property
    def unsettled(self) -> int:
        """Events that are out under the present epoch."""
        return len(self._out)

    @property
    def ready(self) -> int:
        """Events that wait for room."""
        return len(self._waiting)

    @property
    def delayed(self) -> int:
        return len(self._delayed)

    @property
    def due(self) -> float | None:
        """When the next delayed event is."""
        return self._delayed[0][0] if self._delayed else None

    @property
    def has_room(self) -> bool:
        """May more be read? What waits for a retry takes as much again as the window."""
        kept = len(self._out) + len(self._waiting)
        return (
            kept < self._window
            and kept + len(self._delayed) < 2 * self._window
            and len(self.checkpoint) < LONGEST_GAP
        )

    def _wait(self, kept: Kept) -> None:
        heapq.heappush(self._waiting, kept)

    def _take(self, epoch: int, first: int, last: int) -> Iterator[Kept]:
        if epoch != self.epoch:
            return
        for position in range(first, last + 1):
            if kept := self._out.pop(position, None):
                yield kept


class Seen:
    """Knows events of earlier connections again, which a server repeats on a new one.

    Within one connection nothing is a repetition: an id may stand on several events.
    """

    def __init__(self) -> None:
        self._connection = 0
        self._seen: OrderedDict[int, int] = OrderedDict()  # key to connection

    def reconnect(self) -> None:
        self._connection += 1

    def repeats(self, id: str, name: str, data: str) -> bool:
        """Has an earlier connection brought this event? Remembers it if not."""
        key = hash((id, name, data))
        if self._seen.get(key, self._connection) != self._connection:
            return True
        self._seen[key] = self._connection
        if len(self._seen) > SEEN:
            self._seen.popitem(last=False)
        return False
