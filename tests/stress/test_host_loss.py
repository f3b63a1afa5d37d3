"""Two workers on hosts of their own, a broker on a third: a host is lost, or cut off.

Nothing is lost, no duplicate is untold. Heartbeats are 10 s: after two of them the broker
gives back what a host had that it hears nothing of.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.services.worker import BrokerPlace, Worker, numbers, put, until
from tests.stress.checker import Total, total_queue
from tests.stress.rig import stop
from tests.support.broker import Broker, binaries
from tests.support.namespaces import Host, Network, switch

COUNT = 2000


class Remote:
    """A worker on a host."""

    def __init__(self, host: Host, directory: Path, url: str) -> None:
        self.host = host
        with host:
            self.worker = Worker(directory, "plain", "--connection", url, PACE="0.3")

    def ready(self) -> bool:
        with self.host:
            return bool(self.worker.status().get("ready"))

    def stop(self) -> None:
        with self.host:
            stop(self.worker)


class Rig:
    """Both workers, under load."""

    def __init__(self, hosts: Network, place: BrokerPlace, directory: Path) -> None:
        self.hosts = hosts
        self.place = place
        self.put = 0
        self.pair = [
            Remote(hosts.add(name), directory / name, place.url) for name in ("first", "second")
        ]
        for remote in self.pair:
            until(remote.ready, 30.0, "ready")
        self.more()
        for remote in self.pair:
            until(remote.worker.handled, 20.0, "under load")

    def more(self) -> None:
        put(self.place, "work", *numbers(range(self.put, self.put + COUNT)))
        self.put += COUNT

    def all_handled(self, seconds: float) -> None:
        until(lambda: len(self._numbers()) == self.put, seconds, "all handled")
        until(lambda: self.place.ready("work") == 0, seconds, "the queue is empty")

    def account(self) -> Total:
        record = [line for remote in self.pair for line in remote.worker.handled()]
        return total_queue(range(self.put), range(self.put), record)

    def _numbers(self) -> set[int]:
        return {n for remote in self.pair for n in remote.worker.times()}


@pytest.fixture
def hosts() -> Iterator[Network]:
    """A network for each test: what one leaves of it, lost hosts and cut links, is no start."""
    with switch() as network:
        yield network


@pytest.fixture
def rig(hosts: Network, tmp_path: Path) -> Iterator[Rig]:
    if binaries() is None:
        pytest.skip("needs RabbitMQ's own programs, for a node on a host of its own")
    with hosts.add("broker") as host:
        broker = Broker(address=host.address)
        rig = None
        try:
            broker.host = host.address
            place = BrokerPlace(broker, broker.add_vhost())
            place.declare("work")
            rig = Rig(hosts, place, tmp_path)
            yield rig
        finally:
            for remote in rig.pair if rig else ():
                remote.worker.destroy()
            broker.stop()


def test_what_a_lost_host_had_in_hand_comes_to_another_within_40_seconds(rig: Rig) -> None:
    lost, other = rig.pair
    rig.hosts.cut(lost.host)
    for pid in lost.worker.living():
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    rig.all_handled(40.0)
    other.stop()
    assert rig.place.ready("work") == 0
    total = rig.account()
    assert (total.lost, total.unexpected, total.untold) == (0, 0, 0), total


def test_a_host_that_was_cut_off_settles_nothing_of_before_and_goes_on(rig: Rig) -> None:
    cut, other = rig.pair
    rig.hosts.cut(cut.host)
    until(lambda: not cut.ready(), 35.0, "noticed")
    rig.all_handled(40.0)
    rig.hosts.heal(cut.host)
    until(cut.ready, 40.0, "ready again")
    rig.more()
    rig.all_handled(40.0)
    for remote in (cut, other):
        remote.stop()
    assert rig.place.ready("work") == 0
    total = rig.account()
    assert (total.lost, total.unexpected, total.untold) == (0, 0, 0), total
