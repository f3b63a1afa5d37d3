"""The making of a copy ends, whatever its message holds and whatever its place answers."""

from __future__ import annotations

import logging
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.logic.settlement.copying import REFUSALS_MAX, Form, Refusal, next_form
from actors.logic.settlement.failure import Outcome
from actors.logic.settlement.ledger import Flush
from actors.roles.port import Republish, Republished, RepublishFailed
from actors.roles.protocol import Single
from actors.roles.settler import ROUND_S, Settler

WAITS = Refusal.AWAY
SAYS_NO = [refusal for refusal in Refusal if refusal is not WAITS]


class World:
    """A client that answers each move as a test says, and a context that keeps its reminders."""

    def __init__(self, *answers: Refusal | BaseException | None) -> None:
        self.answers = list(answers)  #: the last one again and again
        self.requests: list[Republish] = []
        self.flushes: list[Flush] = []
        self.reminders: list[Any] = []
        self.random = random.Random(0)
        self.settler = Settler("c", self, self)  # type: ignore[arg-type]
        self.settler.unacked.begin(1, "q", "r", 4)
        self.settler.unacked.deliver(1, 4, 4, 0.0)
        self.now = 0.0

    def single(self, position: int, outcome: Outcome, **more: Any) -> None:
        self.settler._single(Single(1, position, outcome, attempts=2, **more), self.now)
        self.turn()

    def turn(self) -> None:
        self.settler.flush(self.now)

    def republish(self, request: Republish) -> None:
        self.requests.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, BaseException):
            raise answer
        event = (
            Republished(request.token)
            if answer is None
            else RepublishFailed(request.token, "no", answer)
        )
        self.later = event
        self.settler.on_republished(event, self.now)

    def wait(self, seconds: float) -> None:
        """Rounds pass."""
        end = self.now + seconds
        while self.now < end:
            self.now += ROUND_S
            reminders, self.reminders = self.reminders, []
            for reminder in reminders:
                self.settler.republish_again(reminder.generation, self.now)
            self.turn()

    def settle(self, queue: str, epoch: int, flush: Flush) -> None:
        self.flushes.append(flush)

    def remind(self, seconds: float, reminder: Any) -> None:
        self.reminders.append(reminder)

    def send(self, to: str, message: Any) -> None:
        """Nobody listens."""

    @property
    def open(self) -> int:
        return self.settler.unacked.unsettled

    @property
    def forms(self) -> list[Form]:
        return [request.form for request in self.requests]


@pytest.mark.parametrize("answer", [*SAYS_NO, OverflowError("int too big"), KeyError("x")])
@pytest.mark.parametrize(
    ("outcome", "back"),
    [(Outcome.RETRY, "failed"), (Outcome.SNOOZE, "returned")],
)
def test_a_retry_that_nobody_stores_waits_here_and_returns_to_its_queue(
    answer: Refusal | BaseException, outcome: Outcome, back: str
) -> None:
    world = World(answer)
    world.single(1, outcome, delay=70.0)
    world.wait(2 * ROUND_S)
    assert world.flushes == []  # it waits no less than …
    world.wait(70.0)  # … and no longer than it may
    assert [getattr(flush, back) for flush in world.flushes] == [(1,)]
    assert set(world.forms) == {Form.WHOLE}  # never without its headers
    assert world.open == 3
    assert not world.settler._republishing


@pytest.mark.parametrize("answer", [*SAYS_NO, OverflowError("int too big"), KeyError("x")])
def test_a_dead_letter_that_its_queue_does_not_take_is_kept_here(
    answer: Refusal | BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    world = World(answer)

    def republish(request: Republish) -> None:
        world.answers = [None] if request.form is Form.KEPT else [answer]
        World.republish(world, request)

    world.republish = republish  # type: ignore[method-assign]
    with caplog.at_level(logging.WARNING):
        world.single(1, Outcome.DEAD_LETTER, reason="bad")
        world.wait(REFUSALS_MAX * ROUND_S)
    assert world.flushes == [Flush(1, ((1, 1),))]
    assert world.forms[-1] is Form.KEPT
    assert world.requests[-1].lacking
    assert "dead letters of q: " in caplog.text
    assert "dead letters of q: " in (world.settler.unacked.counts["r"].last_error or "")


def test_while_nobody_can_be_asked_a_copy_is_made_again_as_it_is() -> None:
    world = World(WAITS)
    world.single(1, Outcome.DEAD_LETTER)
    world.single(2, Outcome.RETRY, delay=1.0)
    world.wait(1000.0)
    assert set(world.forms) == {Form.WHOLE}
    assert world.flushes == []
    world.answers = [None]
    world.wait(ROUND_S)
    assert world.flushes == [Flush(2, ((1, 2),))]


def test_a_place_that_is_full_for_a_moment_gets_its_copies() -> None:
    world = World(*[Refusal.REFUSED] * (REFUSALS_MAX - 1), None)
    world.single(1, Outcome.DEAD_LETTER)
    world.wait(REFUSALS_MAX * ROUND_S)
    assert set(world.forms) == {Form.WHOLE}
    assert world.flushes == [Flush(1, ((1, 1),))]


def test_what_neither_the_broker_nor_the_spool_takes_is_tried_at_both_again() -> None:
    world = World(Refusal.UNFIT)
    world.single(1, Outcome.DEAD_LETTER)
    world.wait(3 * ROUND_S)
    assert world.forms[:4] == [Form.WHOLE, Form.BARE, Form.KEPT, Form.WHOLE]
    assert world.open == 4
    assert len(world.requests) <= 3 * 4  # and not faster


def test_one_copy_that_cannot_be_made_holds_no_other() -> None:
    world = World(None)

    def republish(request: Republish) -> None:
        world.requests.append(request)
        if request.position == 2 and request.form is not Form.KEPT:
            raise OverflowError("int too big to convert")
        world.settler.on_republished(Republished(request.token), world.now)

    world.republish = republish  # type: ignore[method-assign]
    for position in (1, 2, 3, 4):
        world.single(position, Outcome.DEAD_LETTER)
    assert world.open == 0
    assert max(world.forms) is Form.KEPT


def test_in_a_drain_what_has_no_copy_returns_at_once() -> None:
    world = World(Refusal.BARRED)
    world.settler.draining = True
    world.single(1, Outcome.RETRY, delay=30.0)
    assert world.flushes == [Flush(failed=(1,), told=((1, 2),))]


def test_texts_that_no_utf8_holds_are_escaped_for_whoever_stores_them() -> None:
    world = World(None)
    world.single(1, Outcome.DEAD_LETTER, reason="bad \udcff", error="a.\ud800")
    assert (world.requests[0].reason, world.requests[0].error) == ("bad \\udcff", "a.\\ud800")


@given(st.lists(st.sampled_from(SAYS_NO), min_size=REFUSALS_MAX * 3), st.booleans())
def test_whatever_is_refused_comes_to_an_end(answers: list[Refusal], dead: bool) -> None:
    form, refused = Form.WHOLE, 0
    for answer in answers:
        refused += 1
        after = next_form(form, answer, refused, dead=dead)
        if after is None:
            assert not dead
            return
        form, refused = (after, 0) if after is not form else (form, refused)
        if form is Form.KEPT:
            assert dead
            return
    raise AssertionError("it goes on")
