"""One event stream's source, whatever its server and its owner do, in whatever order."""

from __future__ import annotations

import itertools
from typing import Any, cast

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from actors.connectors.sse.http import StreamLost, StreamOver, Target, origin
from actors.connectors.sse.parser import StreamEvent
from actors.connectors.sse.source import Source, State
from actors.connectors.sse.thread import Began, Came, StreamThread
from actors.errors import Fault
from actors.logic.messages.records import unpack
from actors.roles.port import Consuming, Fetched, QueueLost


class Reader:
    """The thread of a source: how far its present attempt has come."""

    def __init__(self) -> None:
        self.attempt = 0
        self.answered = False
        self.reads = False

    def start(self, attempt: int, not_before: float, target: Target, last_event_id: str) -> None:
        assert not self.attempt, "two attempts at once"
        self.attempt, self.answered, self.reads = attempt, False, False

    def resume(self, attempt: int) -> None:
        assert attempt == self.attempt
        assert self.answered
        assert not self.reads, "what reads is not told to read on"
        self.reads = True

    def stop(self, attempt: int) -> None:
        assert attempt == self.attempt
        self.attempt = 0


class Stream(RuleBasedStateMachine):
    WINDOW = 4

    @initialize()
    def begin(self) -> None:
        target = Target("http://127.0.0.1/words", {}, origin("http://127.0.0.1/"))
        self.source = Source("sse", "words", target, "", itertools.count(1))
        self.reader = Reader()
        self.now = 0.0
        self.epoch = 0
        self.over = False
        self.stopped = False
        self.flows = False  #: `Consuming` was said in this epoch, and neither `Stopped` since
        self.came = itertools.count(1)
        self.sent: set[str] = set()
        self.handed: list[str] = []
        self.out: dict[int, str] = {}
        self.start_anew()

    @property
    def thread(self) -> StreamThread:
        return cast(StreamThread, self.reader)

    def start_anew(self) -> None:
        self.epoch += 1
        self.handed += self.out.values()  # may come again: they were out
        self.out = {}
        self.flows = self.stopped = False
        self.source.begin(self.thread, self.epoch, self.WINDOW)

    # ── the server ────────────────────────────────────────────────────────────

    @precondition(lambda self: self.reader.attempt and not self.reader.answered)
    @rule()
    def answer(self) -> None:
        self.reader.answered = True
        self.source.on(Began(), self.now, self.thread)

    @precondition(lambda self: self.reader.attempt and not self.reader.answered)
    @rule()
    def has_no_more(self) -> None:
        self.reader.attempt, self.over = 0, True
        self.source.on(StreamOver(), self.now, self.thread)

    @precondition(lambda self: self.reader.reads and self.reader.attempt)
    @rule(count=st.integers(0, 3))
    def bring(self, count: int) -> None:
        self.reader.reads = False
        ids = [str(next(self.came)) for _ in range(count)]
        self.sent |= set(ids)
        events = [StreamEvent(id, "message", id, None, True) for id in ids]
        self.source.on(Came(events, None, None), self.now, self.thread)

    @precondition(lambda self: self.reader.attempt)
    @rule(fault=st.sampled_from((Fault.UNREACHABLE, Fault.REFUSED)))
    def break_off(self, fault: Fault) -> None:
        self.reader.attempt = 0
        self.source.on(StreamLost("broken", fault), self.now, self.thread)

    # ── the owner ─────────────────────────────────────────────────────────────

    @rule(may_read=st.booleans())
    def turn(self, may_read: bool) -> None:
        self.now += 1.0
        for report in self.source.turn(self.now, self.thread, may_read=may_read):
            self.hear(report)

    def hear(self, report: Any) -> None:
        if isinstance(report, Consuming):
            assert not self.flows
            assert not self.stopped
            self.flows = True
        elif isinstance(report, Fetched):
            assert self.flows, "handed out to nobody"
            ends = memoryview(report.ends).cast("I")
            for index in range(len(ends)):
                begin = ends[index - 1] if index else 0
                self.out[report.first + index] = unpack(
                    report.blob[begin : ends[index]]
                ).body.decode()
            assert len(self.out) <= self.WINDOW
        else:
            assert isinstance(report, QueueLost)
            assert not self.out, "said while events are unsettled"
            self.flows = False

    @precondition(lambda self: self.out)
    @rule()
    def settle(self) -> None:
        position = min(self.out)
        self.handed.append(self.out.pop(position))
        self.source.buffer.settle(self.epoch, position, position)

    @precondition(lambda self: not self.stopped)
    @rule()
    def stop(self) -> None:
        self.stopped, self.flows = True, False
        self.source.stop()

    @precondition(lambda self: self.stopped)
    @rule()
    def resume(self) -> None:
        self.stopped = False
        self.source.resume(self.thread)

    @rule()
    def consume_anew(self) -> None:
        self.start_anew()

    # ── whatever happens ──────────────────────────────────────────────────────

    @invariant()
    def the_state_says_what_the_reader_does(self) -> None:
        if not hasattr(self, "source"):
            return
        state, reader = self.source.state, self.reader
        assert self.source.attempt == reader.attempt
        if not reader.attempt:
            assert state in (State.IDLE, State.LOST, State.CLOSED)
        elif not reader.answered:
            assert state in (State.CONNECTING, State.WAITING)
        else:
            assert state is (State.STREAMING if reader.reads else State.PAUSED)
        assert (state is State.CLOSED) == self.over

    @invariant()
    def nothing_is_handed_out_that_the_server_did_not_send(self) -> None:
        assert not hasattr(self, "sent") or {*self.handed, *self.out.values()} <= self.sent


TestStream = Stream.TestCase
TestStream.settings = settings(max_examples=60, stateful_step_count=40)
