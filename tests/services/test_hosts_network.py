"""One actor system over three hosts, in network namespaces, with RabbitMQ on the first."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from actors.plan.network import fresh_key
from tests.services.worker import BrokerPlace, Worker, numbers, put, until
from tests.stress.checker import Total, total_queue
from tests.support.broker import Broker
from tests.support.namespaces import Host, Network

PORT = 7101
NAMES = ("first", "second", "third")
CANARY = "nobody on the link may read this"


class Company:
    """Three hosts that play one app, and the broker on the first."""

    def __init__(self, network: Network, broker: Broker, vhost: str, directory: Path) -> None:
        self.network = network
        self._broker = broker
        self._vhost = vhost
        self._directory = directory
        self._key = directory / "key"
        self._key.write_text(fresh_key() + "\n")
        self._key.chmod(0o600)
        self._sent = 0
        self.workers: dict[str, Worker] = {}

    def host(self, name: str) -> Host:
        return self.network.hosts[name]

    def start(self, name: str, *flags: str, pace: float = 0.05) -> None:
        """The first host listens, the others join it."""
        address = f"{self.host('first').address}:{PORT}"
        how = ("--listen", address, "--connection", self.url)
        flags = (*(how if name == "first" else ("--join", address)), *flags)
        flags = (*flags, "--key-file", str(self._key), "--host-name", name)
        if before := self.workers.get(name):
            before.destroy()
        with self.host(name):
            self.workers[name] = Worker(self._directory / name, "pair", *flags, PACE=str(pace))

    @property
    def url(self) -> str:
        address = self.host("first").address
        return f"amqp://guest:guest@{address}:{self._broker.port}/{self._vhost}"

    def status(self, name: str = "first") -> dict[str, Any]:
        with self.host(name):
            return self.workers[name].status()

    def handlers(self, name: str = "first") -> dict[str, int]:
        """How many handlers run on each host, as a host sees it."""
        found = dict.fromkeys(NAMES, 0)
        for actor in self.status(name).get("actors", ()):
            found[actor["host"]] += actor["role"] == "handler" and actor["state"] == "running"
        return found

    def until_they_are(self, *counts: int, seconds: float = 30.0) -> None:
        wanted = dict(zip(NAMES, counts, strict=True))
        until(lambda: self.handlers() == wanted, seconds, f"handlers {wanted}")

    def put(self, count: int, **more: str) -> None:
        bodies = numbers(range(self._sent, self._sent + count))
        with self.host("first"):
            put(BrokerPlace(self._broker, self._vhost), "work", *(b | more for b in bodies))
        self._sent += count

    def handled(self, name: str) -> int:
        return len(self.workers[name].times())

    def account(self, seconds: float = 90.0) -> Total:
        """Wait until all that was put is handled; nothing may be lost, nothing be untold."""

        def everywhere() -> list[dict[str, Any]]:
            lines = [line for worker in self.workers.values() for line in worker.handled()]
            return sorted(lines, key=lambda line: float(line["at"]))

        def in_flight() -> int:
            return int(self.status().get("totals", {}).get("in_flight", 1))

        until(lambda: len({line["n"] for line in everywhere()}) == self._sent, seconds, "handled")
        until(lambda: in_flight() == 0, seconds, "all is settled")
        with self.host("first"):
            assert BrokerPlace(self._broker, self._vhost).ready("work") == 0
        total = total_queue(range(self._sent), range(self._sent), everywhere())
        assert (total.lost, total.unexpected, total.untold) == (0, 0, 0), total
        return total

    def callboard(self, name: str, *arguments: str) -> str:
        """Output of a command that is given on a host."""
        with self.host(name):
            done = subprocess.run(
                [sys.executable, "-m", "actors", *arguments],
                env={**os.environ, **Worker.environment(self._directory / name)},
                capture_output=True,
                text=True,
                timeout=60,
            )
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def near(hosts: Network) -> Iterator[Broker]:
    """Three hosts on one switch, and the broker on the first."""
    for name in NAMES:
        hosts.add(name)
    with hosts.hosts["first"] as first:
        broker = Broker(address=first.address)
    yield broker
    broker.stop()


@pytest.fixture
def company(hosts: Network, near: Broker, tmp_path: Path) -> Iterator[Company]:
    with hosts.hosts["first"]:
        vhost = near.add_vhost()
        BrokerPlace(near, vhost).declare("work")
    company = Company(hosts, near, vhost, tmp_path)
    yield company
    for host in hosts.hosts.values():
        hosts.heal(host)
    for worker in company.workers.values():
        worker.destroy()
    with hosts.hosts["first"]:
        near.delete_vhost(vhost)


def test_hosts_that_join_take_their_share_and_every_host_knows_all(company: Company) -> None:
    company.start("first")
    company.until_they_are(2, 0, 0)
    company.put(400)
    for name in NAMES[1:]:
        company.start(name)
    company.until_they_are(2, 2, 2)
    company.put(400)
    total = company.account()
    assert total.duplicated == 0
    assert all(company.handled(name) > 100 for name in NAMES)
    for name in NAMES:
        assert company.handlers(name) == {"first": 2, "second": 2, "third": 2}, name


def test_what_a_killed_host_held_is_handed_out_again(company: Company) -> None:
    for name in NAMES:
        company.start(name)
    company.until_they_are(2, 2, 2)
    company.put(1500)
    until(lambda: company.handled("second") > 20)
    company.workers["second"].signal(signal.SIGKILL, to_all=True)
    company.until_they_are(2, 0, 2)
    company.account()
    company.start("second")
    company.until_they_are(2, 2, 2)
    company.put(300)
    company.account()


def test_a_host_that_is_cut_off_for_a_minute_settles_nothing_and_comes_back(
    company: Company,
) -> None:
    for name in NAMES:
        company.start(name, pace=0.1)
    company.until_they_are(2, 2, 2)
    company.put(3000)
    until(lambda: company.handled("third") > 20)
    company.network.cut(company.host("third"))
    cut_at = time.monotonic()
    company.until_they_are(2, 2, 0)
    handlers_end = lambda: len(company.workers["third"].living()) <= 3  # noqa: E731
    until(handlers_end, 15.0, "the handlers that nobody asks for end")
    alone = company.handled("third")
    until(lambda: time.monotonic() > cut_at + 60.0, 61.0)
    assert company.handled("third") == alone, "nobody works where nothing can be settled"
    assert company.status("third").get("state") == "waiting"
    company.network.heal(company.host("third"))
    company.until_they_are(2, 2, 2)
    company.put(300)
    company.account()
    assert company.handled("third") > alone


def test_a_drained_host_gives_its_work_back_and_ends(company: Company) -> None:
    for name in NAMES:
        company.start(name)
    company.until_they_are(2, 2, 2)
    company.put(1000)
    until(lambda: company.handled("second") > 20)
    company.callboard("third", "drain", "second", "--name", "test")
    assert company.workers["second"].wait() == 0, company.workers["second"].output
    company.until_they_are(2, 0, 2)
    assert company.account().duplicated == 0
    company.workers["third"].signal(signal.SIGTERM)
    assert company.workers["third"].wait() == 0, company.workers["third"].output


def test_the_loss_of_the_first_host_leaves_the_others_waiting_for_it(company: Company) -> None:
    company.start("first")
    company.start("second")
    company.until_they_are(2, 2, 0)
    company.put(300)
    until(lambda: company.handled("second") > 20)
    company.workers["first"].signal(signal.SIGKILL, to_all=True)
    until(lambda: len(company.workers["second"].living()) <= 3, 15.0, "handlers end")
    company.start("first")
    company.until_they_are(2, 2, 0)
    company.account()


def test_who_listens_on_the_link_reads_nothing_and_who_repeats_it_changes_nothing(
    company: Company,
) -> None:
    tap = company.network.tap(company.host("second"))
    company.start("first")
    company.start("second")
    company.until_they_are(2, 2, 0)
    company.put(200, secret=CANARY)
    company.account()
    streams = tap.streams()
    assert company.handled("second") > 20
    assert sum(map(len, streams.values())) > 20_000
    assert not [ends for ends, data in streams.items() if CANARY.encode() in data]
    before = company.status()["totals"]
    replayed = 0
    for (_, _, address, port), data in streams.items():
        with (
            company.host("third"),
            suppress(OSError),  # it was hung up on
            socket.create_connection((address, port), 5.0) as attacker,
        ):
            attacker.sendall(data)
            attacker.shutdown(socket.SHUT_WR)
            while attacker.recv(65536):
                pass
        replayed += 1
    assert replayed > 4
    assert company.status()["totals"] == before
    assert "refused a connection" in company.workers["first"].output
    company.put(100)
    company.account()
    assert company.handlers() == {"first": 2, "second": 2, "third": 0}
