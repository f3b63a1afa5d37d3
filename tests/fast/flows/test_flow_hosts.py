"""Hosts that join, in memory: who runs what, and what becomes of the work."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from actors import Actions, App, Message, Options, SpoolConnection
from actors.logic.supervision.lease import LEASE
from actors.logic.supervision.remote_node import LOST_AFTER_S
from actors.roles.protocol import Drain, Drained
from tests.simulation.hosts import FIRST, HostsSystem

GPU = (("gpu", 2),)
WAITS = ("waiting", "no host offers gpu")


class Scene:
    """A system of hosts, and who handled what."""

    def __init__(self, **options: Any) -> None:
        self.handled: list[int] = []
        self.pause = 0.0  #: seconds that a bulk takes
        app = App(connections=[SpoolConnection(prefetch_count=10)], version="1")
        common = {Options.BULK_SIZE: 2, Options.BULK_FLUSH_INTERVAL: 0.5}
        app.route(["any"], options=common | {Options.CONCURRENCY: 2})(self._handle)
        app.route(["gpu"], options=common | {Options.REQUIRES: {"gpu": True}})(self._handle)
        self.system = HostsSystem(app, 1, 0.0, **options)

    async def _handle(self, messages: list[Message[int]]) -> None:
        await asyncio.sleep(self.pause)
        self.handled += [message.body for message in messages]

    def states(self, role: str) -> dict[str, tuple[str, str]]:
        """State and reason of each actor of a role."""
        actors = self.system.status()["actors"]
        return {a["name"]: (a["state"], a["reason"]) for a in actors if a["role"] == role}

    def waiting(self, queue: str) -> int:
        return len(self.system.world.queues.get(queue, ()))


@pytest.fixture
def scene() -> Iterator[Scene]:
    scene = Scene()
    with scene.system:
        scene.system.advance(1.0)
        yield scene


def test_a_host_that_joins_gets_as_many_handlers_as_each_other(scene: Scene) -> None:
    scene.system.join("two", version="1")
    scene.system.advance(1.0)
    assert len(scene.system.handlers(FIRST)) == len(scene.system.handlers("two")) == 2
    handlers = set(scene.states("handler"))
    assert {"spool/any/1", "spool/any/2", "spool/any/1@two", "spool/any/2@two"} < handlers
    assert scene.states("host") == {"two": ("running", "")}


def test_a_route_that_no_host_can_run_fetches_nothing_and_says_why(scene: Scene) -> None:
    scene.system.deliver("gpu", [1, 2, 3])
    scene.system.advance(10.0)
    assert scene.waiting("gpu") == 3
    assert scene.states("handler")["spool/gpu"] == WAITS
    assert not scene.system.status()["ready"]


def test_a_host_that_offers_what_a_route_requires_runs_it(scene: Scene) -> None:
    sent = scene.system.deliver("gpu", [1, 2, 3])
    scene.system.join("two", GPU, version="1")
    scene.system.advance(10.0)
    assert [one.actions for one in sent] == [[Actions.ACK]] * 3
    assert scene.states("handler")["spool/gpu/1@two"] == ("running", "")
    assert scene.system.status()["ready"]


def test_what_waits_returns_to_its_queue_once_nobody_can_work_on_it(scene: Scene) -> None:
    scene.system.join("two", GPU, version="1")
    scene.system.advance(2.0)
    scene.system.kill_host("two")
    sent = scene.system.deliver("gpu", range(5))
    scene.system.advance(LOST_AFTER_S + 10.0)
    assert scene.waiting("gpu") == 5, "other workers may have them"
    assert scene.states("handler")["spool/gpu"] == WAITS
    scene.system.join("three", GPU, version="1")
    scene.system.advance(10.0)
    assert sorted(scene.handled) == [0, 1, 2, 3, 4]
    assert all(one.actions[-1] is Actions.ACK for one in sent)


def test_placed_locally_nothing_runs_on_other_hosts() -> None:
    scene = Scene(placement="local")
    with scene.system:
        scene.system.join("two", GPU, version="1")
        scene.system.advance(5.0)
        assert scene.system.handlers("two") == []
        assert scene.states("host") == {"two": ("running", "")}


def test_a_host_of_another_version_gets_nothing_and_status_says_why(scene: Scene) -> None:
    scene.system.join("two", GPU, version="2")
    scene.system.advance(5.0)
    assert scene.system.handlers("two") == []
    reason = "its version of the app is '2', and the leader's '1'"
    assert scene.states("host") == {"two": ("waiting", reason)}


def test_of_two_hosts_of_one_name_the_first_stays(scene: Scene) -> None:
    scene.system.join("two", version="1")
    scene.system.advance(1.0)
    scene.system.join("two", GPU, version="1")
    scene.system.join(FIRST, GPU, version="1")
    scene.system.advance(5.0)
    assert sorted(scene.system.handlers("two")) == [
        name for name in sorted(scene.system.stage.named("handler")) if "@two#" in name
    ]
    assert len(scene.system.handlers("two")) == 2
    assert scene.states("handler")["spool/gpu"] == WAITS


def test_a_lost_hosts_handlers_are_dead_to_the_unit_and_end_by_themselves(scene: Scene) -> None:
    scene.system.join("two", version="1")
    scene.system.advance(1.0)
    scene.system.stage.cut |= {(FIRST, "two"), ("two", FIRST)}
    scene.system.advance(LEASE + 2.5)
    assert scene.system.handlers("two") == []
    assert "spool/any/1@two" in scene.states("handler"), "it is not lost yet"
    scene.system.advance(LOST_AFTER_S - LEASE)
    assert set(scene.states("handler")) == {"spool/any/1", "spool/any/2", "spool/gpu"}
    assert scene.states("host") == {}
    scene.system.stage.cut.clear()
    scene.system.advance(15.0)
    assert len(scene.system.handlers("two")) == 2


def test_a_drained_host_finishes_what_it_has_and_leaves(scene: Scene) -> None:
    scene.system.join("two", version="1")
    scene.system.advance(1.0)
    sent = scene.system.deliver("any", range(20))
    scene.system.drain_host("two")
    scene.system.advance(5.0)
    assert scene.system.handlers("two") == []
    assert scene.states("host") == {}
    assert [one.actions for one in sent] == [[Actions.ACK]] * 20, "none came twice"
    assert sorted(scene.handled) == list(range(20))


def test_who_loses_the_leader_ends_what_it_runs_and_joins_the_next(scene: Scene) -> None:
    scene.system.join("two", version="1")
    scene.system.advance(1.0)
    before = scene.system.handlers("two")
    scene.system.restart_leader(LEASE + 5.0)
    assert scene.system.handlers("two") == []
    scene.system.advance(15.0)
    assert len(scene.system.handlers("two")) == 2
    assert not set(scene.system.handlers("two")) & set(before)


def test_the_drain_of_the_leader_settles_what_other_hosts_have(scene: Scene) -> None:
    scene.system.join("two", version="1")
    scene.system.advance(2.0)
    sent = scene.system.deliver("any", range(30))
    scene.system.drain_host(FIRST)
    scene.system.advance(10.0)
    assert Drained(0) in scene.system.stage.outbox
    left = scene.waiting("any")
    settled = [one for one in sent if one.actions == [Actions.ACK]]
    assert len(settled) + left == 30, "what was fetched is settled, the rest is where it was"


def test_a_host_without_a_leader_ends_when_it_is_told(scene: Scene) -> None:
    scene.system.join("two", version="1")
    scene.system.advance(2.0)
    scene.system.stage.cut |= {(FIRST, "two"), ("two", FIRST)}
    scene.system.stage.post("launcher@two", scene.system.joined["two"], Drain(25.0))
    scene.system.advance(LEASE + 3.0)
    assert scene.system.joined["two"] not in scene.system.stage.contexts


def test_a_host_that_hangs_on_to_its_work_is_killed_at_its_deadline(scene: Scene) -> None:
    scene.pause = 1000.0
    scene.system.join("two", version="1")
    scene.system.advance(2.0)
    sent = scene.system.deliver("any", range(10))
    scene.system.advance(1.0)
    scene.system.stage.post("launcher@two", scene.system.joined["two"], Drain(5.0))
    scene.system.advance(6.0)
    assert scene.system.handlers("two") == []
    scene.pause = 0.0
    for name in scene.system.handlers(FIRST):
        scene.system.stage.kill(name, "killed by the test")
    scene.system.advance(20.0)
    assert all(one.actions[-1:] == [Actions.ACK] for one in sent)


def test_a_host_is_lost_while_the_unit_begins_anew(scene: Scene) -> None:
    scene.system.join("two", version="1")
    scene.system.advance(2.0)
    scene.system.kill_host("two")
    scene.system.advance(LOST_AFTER_S - 3.0)
    for name in scene.system.stage.named("batcher"):
        scene.system.stage.kill(name, "killed by the test")
    scene.system.advance(1.0)
    assert scene.states("batcher")["spool/batcher"][0] == "stopped", "it waits for the lost ones"
    sent = scene.system.deliver("any", range(10))
    scene.system.advance(10.0)
    assert [one.actions[-1] for one in sent] == [Actions.ACK] * 10
    assert set(scene.states("handler")) == {"spool/any/1", "spool/any/2", "spool/gpu"}
