"""Handlers that are replaced: they finish what they have, and nobody suffers for it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from actors import App, HandlerActor, Message
from actors.logic.bulks.wear import MIB
from actors.roles.protocol import Drain, Retire, Retired, Settlement
from actors.stages.observed import ObservedCode
from actors.testing import InMemorySystem
from tests.support.flow import ACK, KINDS, Nth, app_on, meddled

pytestmark = pytest.mark.parametrize("kind", KINDS)


class Staff:
    """An app whose handlers note who handled what, and who came and went."""

    def __init__(self, kind: str, takes: float = 0.1, **options: Any) -> None:
        self.app: App = app_on(kind)
        self.handled: list[tuple[int, int]] = []  # (handler, body)
        self.came, self.gone = 0, list[int]()
        staff = self

        class Note(HandlerActor):
            async def on_start(self) -> None:
                staff.came += 1
                self.number = staff.came

            async def handle(self, messages: list[Message[int]]) -> None:
                await asyncio.sleep(takes)
                staff.handled += [(self.number, message.body) for message in messages]

            async def on_stop(self) -> None:
                staff.gone.append(self.number)

        self.app.route(["q"], options=options)(Note)

    def shares(self) -> dict[int, int]:
        """How many messages each handled."""
        numbers = [number for number, _ in self.handled]
        return {number: numbers.count(number) for number in sorted(set(numbers))}


def handlers(system: InMemorySystem) -> list[dict[str, Any]]:
    return [actor for actor in system.status()["actors"] if actor["role"] == "handler"]


def test_a_handler_makes_room_after_so_many_messages(kind: str) -> None:
    staff = Staff(kind, max_messages=10, bulk_size=5, bulk_flush_interval=1.0, in_flight=1)
    with InMemorySystem(staff.app) as system:
        sent = system.deliver("q", range(100))
        system.advance(30.0)
        assert [one.actions for one in sent] == [[ACK]] * 100
        assert sorted(body for _, body in staff.handled) == list(range(100))
        assert max(staff.shares().values()) <= 20  # two messages were on their way to it
        assert staff.gone == list(range(1, staff.came))  # all but the last have ended in order
        (handler,) = handlers(system)
        assert handler["restarts"] == staff.came - 1 > 4  # which no intensity allows a minute
        assert system.status()["ready"] is True
    assert staff.gone == list(range(1, staff.came + 1))


def test_a_handler_makes_room_once_it_holds_too_much_memory(kind: str) -> None:
    staff = Staff(kind, max_memory=100 * MIB)

    class Leaking(ObservedCode):
        held = 50 * MIB

        def memory(self) -> int:
            self.held += 10 * MIB
            return self.held

    with InMemorySystem(staff.app) as system:
        system.code_class = Leaking
        system.kill("handler")
        sent = system.deliver("q", range(3))
        system.advance(5.0)
        assert staff.gone == []
        for number in range(10):
            sent += system.deliver("q", [number])
            system.advance(1.0)
        assert len(staff.gone) == 2
        assert [one.actions for one in sent] == [[ACK]] * 13


def test_the_others_go_on_meanwhile_and_one_goes_at_a_time(kind: str) -> None:
    staff = Staff(kind, concurrency=3, max_messages=5, in_flight=1)
    most = 0
    with InMemorySystem(staff.app) as system:
        sent = system.deliver("q", range(60))
        for _ in range(100):
            states = [handler["state"] for handler in handlers(system)]
            most = max(most, sum(state != "running" for state in states))
            system.advance(0.05)
        assert [one.actions for one in sent] == [[ACK]] * 60
        assert most == 1
        assert len(staff.gone) >= 6


def test_what_is_in_hand_is_finished_first(kind: str) -> None:
    staff = Staff(kind, takes=20.0, concurrency=2, in_flight=4)
    with InMemorySystem(staff.app) as system:
        sent = system.deliver("q", range(8))
        first = system.stage.named("handler")[0]
        system.stage.post(first, system.stage.named("pipeline")[0], Retire(first, "the test"))
        system.advance(1.0)
        assert [handler["state"] for handler in handlers(system)] == ["draining", "running"]
        sent += system.deliver("q", range(8, 12))
        system.advance(60.0)
        assert staff.shares() == {1: 4, 2: 8}
        assert staff.gone == [1]
        assert [one.attempts for one in sent] == [1] * 12


def test_one_that_dies_instead_is_replaced_and_its_bulks_go_to_others(kind: str) -> None:
    staff = Staff(kind, takes=5.0, in_flight=2)
    with InMemorySystem(staff.app) as system:
        sent = system.deliver("q", range(2))
        (first,) = system.stage.named("handler")
        system.stage.post(first, system.stage.named("pipeline")[0], Retire(first, "the test"))
        system.advance(1.0)
        system.kill("handler")
        system.advance(30.0)
        assert [one.actions for one in sent] == [[ACK]] * 2
        assert (staff.came, staff.gone) == (2, [])


@pytest.mark.parametrize("lost", [Retire, Retired, Settlement, Drain])
def test_whatever_word_of_it_gets_lost_it_comes_to_its_end(kind: str, lost: Any) -> None:
    staff = Staff(kind, max_messages=3)
    with meddled(staff.app, Nth(lost, None)) as system:
        sent = system.deliver("q", range(10))
        system.advance(20.0)
        sent += system.deliver("q", range(10, 20))
        system.advance(30.0)
        assert [one.actions for one in sent] == [[ACK]] * 20
        assert staff.gone
        assert system.status()["ready"] is True


def test_a_drain_finds_one_that_is_about_to_go(kind: str) -> None:
    staff = Staff(kind, takes=2.0, max_messages=1, in_flight=2)
    with InMemorySystem(staff.app) as system:
        sent = system.deliver("q", range(2))
        system.advance(1.0)
    assert [one.actions for one in sent] == [[ACK]] * 2
    assert staff.gone == list(range(1, staff.came + 1))  # each once


def test_one_that_does_not_end_is_killed(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    staff = Staff(kind, max_messages=1)
    monkeypatch.setattr(ObservedCode, "stop", lambda self: None)
    with InMemorySystem(staff.app) as system:
        system.deliver("q", [1])
        system.advance(60.0)
        assert staff.came == 2
        assert system.status()["ready"] is True
        monkeypatch.undo()
