"""The messages of a bulk, and the outcomes that a handler's call gives them."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from threading import Lock
from typing import Any, NamedTuple

from actors.api.message import Handout, Mark, Message
from actors.logic.bulks.bulk import Piece
from actors.logic.settlement.failure import Outcome, Policy, class_name, describe, policy_for, said
from actors.roles.protocol import Bulk, Range, Report, Settlement, Single

#: Outcomes that say all there is to say, so that neighbours can share them.
PLAIN = (Outcome.ACK, Outcome.REJECT, Outcome.RETURN)


class Policies(NamedTuple):
    """The policies of a route for what its handler does not mark."""

    on_success: Policy
    table: Mapping[type[BaseException], Policy]  #: has an entry for `Exception`

    def of(self, kind: type[BaseException]) -> Policy:
        return policy_for(self.table, kind)


class Portion(NamedTuple):
    """The deliveries of a piece that belong to one bulk, by index: `start` up to `stop`."""

    piece: Piece
    start: int
    stop: int

    def range(self, outcome: int) -> Range:
        first = self.piece.first
        return Range(self.piece.epoch, first + self.start, first + self.stop - 1, int(outcome))


class Share(NamedTuple):
    """One bulk of a `protocol.Bulk`, not yet cut into messages."""

    number: int
    portions: tuple[Portion, ...]
    begin: int  #: index of its first delivery over all bulks
    attempts: dict[int, int]  #: hand-outs before, by index over all bulks, where not 0

    def receipt(self, index: int) -> tuple[int, int]:
        """Epoch and position of the delivery at an index of the bulk."""
        for piece, start, stop in self.portions:
            if index < stop - start:
                return piece.epoch, piece.first + start + index
            index -= stop - start
        raise IndexError(index)

    def messages(self, kind: type[Message[Any]], handout: Handout) -> list[Message[Any]]:
        """Its messages, nothing in them decoded."""
        messages: list[Message[Any]] = []
        offset, attempts = self.begin, self.attempts.get
        for piece, start, stop in self.portions:
            ends = array("I", piece.ends)
            blob, base, queue = piece.blob, piece.base, piece.queue
            begin = ends[start - 1] - base if start else 0
            for index, end in enumerate(ends[start:stop], len(messages)):
                end -= base
                before = attempts(offset + index, 0)
                messages.append(kind(blob[begin:end], handout, index, queue, before))
                begin = end
        return messages

    def apart(self, told: Sequence[int]) -> Iterator[tuple[Portion, int | None]]:
        """Its deliveries in order, each of `told` by itself and with its index in the bulk;
        what stands between them with None."""
        begin = 0
        for piece, start, stop in self.portions:
            shift, end = start - begin, begin + stop - start
            for index in told[bisect_left(told, begin) : bisect_left(told, end)]:
                if begin < index:
                    yield Portion(piece, shift + begin, shift + index), None
                begin = index + 1
                yield Portion(piece, shift + index, shift + begin), index
            if begin < end:
                yield Portion(piece, shift + begin, stop), None
            begin = end


class ShareQueue:
    """Bulks that wait for their turn in a handler; another thread may take some back."""

    __slots__ = ("_lock", "_shares")

    def __init__(self, shares: Iterable[Share]) -> None:
        self._shares = deque(shares)
        self._lock = Lock()

    def __bool__(self) -> bool:
        return bool(self._shares)

    @property
    def first(self) -> int:
        """The number of the next; 0: there is none."""
        with self._lock:
            return self._shares[0].number if self._shares else 0

    def take(self) -> Share | None:
        """The next, to be begun; None: there is none."""
        with self._lock:
            return self._shares.popleft() if self._shares else None

    def take_back(self, numbers: Collection[int]) -> list[Share]:
        """Those of these that nobody has begun."""
        with self._lock:
            taken = [share for share in self._shares if share.number in numbers]
            if taken:
                kept = (share for share in self._shares if share.number not in numbers)
                self._shares = deque(kept)
            return taken


def shares(bulk: Bulk) -> Iterator[Share]:
    """Cut a message of several bulks into them."""
    pieces = iter(bulk.pieces)
    piece, start, stop = Piece("", 0, 0, b"", b"", 0), 0, 0
    attempts = dict(bulk.flagged)
    begin = 0
    for number, size in enumerate(bulk.sizes, bulk.number):
        portions: list[Portion] = []
        missing = size
        while missing:
            if start == stop:
                piece = next(pieces)
                start, stop = 0, len(piece.ends) // array("I").itemsize
            taken = min(missing, stop - start)
            portions.append(Portion(piece, start, start + taken))
            start += taken
            missing -= taken
        yield Share(number, tuple(portions), begin, attempts)
        begin += size


def returned(share: Share) -> Settlement:
    """The answer to a bulk that was not begun."""
    return Settlement(
        0, (share.number,), tuple(one.range(Outcome.RETURN) for one in share.portions)
    )


def settle(
    share: Share,
    messages: list[Message[Any]],
    handout: Handout,
    error: BaseException | None,
    policies: Policies,
    seconds: float = 0.0,
) -> Settlement:
    """What becomes of each message of a bulk that its handler has returned or raised on, and
    which took so long."""
    handout.closed = True
    report = Report(handout.route, 1, len(messages), seconds)
    usual, exceptional = policies.on_success.outcome, handout.marks or handout.invalid
    if error is None and usual in PLAIN and not exceptional:
        plain = merged(portion.range(usual) for portion in share.portions)
        return Settlement(0, (share.number,), plain, (), (report,))
    if len(messages) == 1 and handout.answers and error is None and 0 in handout.marks:
        single = _marked(handout.marks[0], messages[0])  # a job: nobody else is in its bulk
        epoch, position = share.receipt(0)
        single = Single(epoch, position, *single[2:8], handout.answers[0])
        return Settlement(0, (share.number,), (), (single,), (report,))
    # An invalid message that the handler stumbled over says nothing about its neighbours.
    stumbled = any(error is invalid for invalid in handout.invalid.values())
    rest = (
        policies.on_success
        if error is None
        else policies.of(Exception if stumbled else type(error))
    )
    told: Sequence[int] = range(len(messages))  # of which more is said than `rest`
    if rest.outcome in PLAIN:
        told = sorted(handout.marks.keys() | handout.invalid.keys())
    ranges: list[Range] = []
    singles: list[Single] = []
    for portion, index in share.apart(told):
        if index is None:
            ranges.append(portion.range(rest.outcome))
            continue
        mark, invalid = handout.marks.get(index), handout.invalid.get(index)
        if mark is not None:
            single = _marked(mark, messages[index])
        elif invalid is not None:
            single = _decided(policies.of(type(invalid)), messages[index], invalid)
        else:
            single = _decided(rest, messages[index], error)
        if answer := handout.answers.get(index):
            single = single._replace(answer=answer)
        if single.outcome in PLAIN and not single.reason and single.answer is None:
            ranges.append(portion.range(single.outcome))
        else:
            epoch, position = portion.piece.epoch, portion.piece.first + portion.start
            singles.append(single._replace(epoch=epoch, position=position))
    failure = error if error is not None else next(iter(handout.invalid.values()), None)
    report = report._replace(error=describe(failure))
    return Settlement(0, (share.number,), merged(ranges), tuple(singles), (report,))


def joined(answers: list[Settlement]) -> Settlement:
    """Several answers as one, with one report of each route."""
    reports: dict[str, Report] = {}
    for answer in answers:
        for one in answer.reports:
            reports[one.route] = together(reports[one.route], one) if one.route in reports else one
    return Settlement(
        0,
        tuple(chain.from_iterable(done.numbers for done in answers)),
        merged(chain.from_iterable(done.ranges for done in answers)),
        tuple(chain.from_iterable(done.singles for done in answers)),
        tuple(reports.values()),
    )


def together(first: Report, second: Report) -> Report:
    """What a handler did for one route, in all."""
    return Report(
        first.route,
        first.bulks + second.bulks,
        first.deliveries + second.deliveries,
        first.seconds + second.seconds,
        second.error or first.error,
    )


def merged(ranges: Iterable[Range]) -> tuple[Range, ...]:
    """Neighbours of one epoch with one outcome made into one."""
    whole: list[Range] = []
    for range in ranges:
        epoch, first, last, outcome = range
        before = whole[-1] if whole else None
        if before and (before.epoch, before.last + 1, before.outcome) == (epoch, first, outcome):
            whole[-1] = before._replace(last=last)
        else:
            whole.append(range)
    return tuple(whole)


def _marked(mark: Mark, message: Message[Any]) -> Single:
    if mark.outcome in PLAIN and not mark.reason:
        return Single(0, 0, int(mark.outcome))
    reason = said(mark.reason)
    attempts = _attempts(message)
    return Single(0, 0, int(mark.outcome), mark.delay, reason, mark.error, attempts)


def _decided(policy: Policy, message: Message[Any], error: BaseException | None) -> Single:
    if policy.outcome in PLAIN:
        return Single(0, 0, int(policy.outcome))
    attempts = _attempts(message)
    outcome, delay = policy.apply(attempts, _content(message))
    if error is None:
        return Single(0, 0, int(outcome), delay, attempts=attempts)
    return Single(0, 0, int(outcome), delay, said(error), class_name(type(error)), attempts)


def _attempts(message: Message[Any]) -> int:
    """Hand-outs, this one included."""
    try:
        return message.attempts + 1
    except Exception:  # an answer is owed even for what is no delivery at all
        return 1


def _content(message: Message[Any]) -> bytes:
    try:
        return message.serialized_data
    except Exception:  # as above
        return b""
