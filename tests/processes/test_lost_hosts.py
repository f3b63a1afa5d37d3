"""A host that vanishes keeps nobody waiting: its messages are dropped, and counted."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

import pytest

from actors.plan import network
from actors.stages.thespian.launcher import Launcher
from tests.support.namespaces import Host, Network
from tests.support.thespian_cast import Play, on_stage, report, until

KEY = os.urandom(32)


class System:
    """A system of puppets on a host of its own."""

    def __init__(self, host: Host, stack: ExitStack, leaders: tuple[str, ...] = ()) -> None:
        self.host = host
        with host:
            self._launcher: Launcher = stack.enter_context(
                on_stage(network.Network(host.address, 0, (KEY,), leaders))
            )
        self.top = self._launcher.top
        self.listens = f"{host.address}:{self._launcher.admin_port}"

    def play(self, action: str, *arguments: Any) -> None:
        with self.host:
            self._launcher.send(Play(action, arguments))
            report(self._launcher)

    def hears_from(self, other: str) -> bool:
        """Whether an answer of another comes."""
        number = time.monotonic_ns()
        self.play("ask", other, number)
        return f"{other} {number}" in self.report()["reports"]

    def hears_from_leader(self, leader: System) -> bool:
        """The same, where only the leader's address is known."""
        self.play("ask", leader.listens, 1)
        return f"{leader.top} 1" in self.report()["reports"]

    def report(self) -> dict[str, Any]:
        with self.host:
            return report(self._launcher)

    def lost(self) -> int:
        counts = self.report()["refused"]
        return int(counts.get("lost a frame", 0) + counts.get("dropped a frame", 0))


@pytest.fixture(scope="module")
def three(hosts: Network) -> Iterator[tuple[System, System, System]]:
    with ExitStack() as stack:
        leader = System(hosts.add("one"), stack)
        others = [System(hosts.add(name), stack, (leader.listens,)) for name in ("two", "three")]
        for other in others:
            until(partial(other.hears_from_leader, leader))
        yield leader, others[0], others[1]


def test_a_host_that_is_cut_off_delays_nobody_else(
    hosts: Network, three: tuple[System, System, System]
) -> None:
    leader, gone, alive = three
    assert until(lambda: leader.hears_from(gone.top))
    before = leader.lost()
    hosts.cut(gone.host)
    leader.play("ask", gone.top, 1, 1000)
    begin = time.monotonic()
    assert until(lambda: leader.hears_from(alive.top))
    assert time.monotonic() - begin < 1.0
    until(lambda: leader.lost() >= before + 1000, 20.0)
    hosts.heal(gone.host)


def test_a_host_that_is_back_is_heard_again(
    hosts: Network, three: tuple[System, System, System]
) -> None:
    leader, gone, _ = three
    assert until(lambda: leader.hears_from(gone.top), 20.0)
    before = leader.lost()
    hosts.cut(gone.host)
    leader.play("ask", gone.top, 1)
    until(lambda: leader.lost() > before, 20.0)
    hosts.heal(gone.host)
    assert until(lambda: leader.hears_from(gone.top), 10.0)
    assert until(lambda: gone.hears_from(leader.top), 20.0)
