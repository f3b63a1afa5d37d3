"""Several hosts in one system: joining, spreading, losing one, draining one; real processes, each
host on a loopback address of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.services.worker import REPOSITORY, Place, Worker, numbers, put, until, until_is

APP = "tests.services.hosts_app:app"
FAR = 40.0  #: seconds in which a lost host is found, and its work done again


class Hosts:
    """Systems that share a key, and their queues."""

    def __init__(self, path: Path, place: Place) -> None:
        self.path = path
        self.place = place
        self.key = path / "key"
        made = subprocess.run(
            [sys.executable, "-m", "actors", "key"], cwd=REPOSITORY, capture_output=True, check=True
        )
        self.key.touch(0o600)
        self.key.write_bytes(made.stdout)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.leader = f"127.0.0.1:{probe.getsockname()[1]}"
        self.running: dict[str, Worker] = {}

    def first(self, **environment: str) -> Worker:
        flags = ("--listen", self.leader, "--connection", self.place.url, "--prefetch", "20")
        return self._start("one", *flags, **environment)

    def join(self, name: str, address: str, *flags: str, **environment: str) -> Worker:
        flags = ("--listen", f"{address}:0", "--join", self.leader, *flags)
        return self._start(name, *flags, **environment)

    def _start(self, name: str, *flags: str, **environment: str) -> Worker:
        flags = ("--key-file", str(self.key), "--host-name", name, *flags)
        self.running[name] = Worker(self.path / name, APP, *flags, PACE="0.05", **environment)
        return self.running[name]

    def handlers(self, seen_by: str = "one") -> dict[str, int]:
        """How many handlers each host has that are at work."""
        actors = self.actors(seen_by)
        running = [a for a in actors if a["role"] == "handler" and a["state"] == "running"]
        return dict(Counter(actor["host"] for actor in running))

    def actors(self, seen_by: str = "one") -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.running[seen_by].status().get("actors", [])
        return found

    def host(self, name: str, seen_by: str = "one") -> dict[str, Any] | None:
        """A joined host as another shows it."""
        named = (a for a in self.actors(seen_by) if a["role"] == "host" and a["name"] == name)
        return next(named, None)

    def states(self, seen_by: str) -> list[tuple[str, str, str]]:
        return [(a["role"], a["state"], a["reason"]) for a in self.actors(seen_by)]

    def times(self) -> Counter[int]:
        return sum((worker.times() for worker in self.running.values()), Counter())

    def drain(self, host: str, on: str) -> int:
        environment = {**os.environ, **Worker.environment(self.path / on)}
        with (self.path / "drain").open("wb") as out:
            command = [sys.executable, "-m", "actors", "drain", host, "--name", "test"]
            return subprocess.run(
                command, cwd=REPOSITORY, env=environment, stdout=out, stderr=out, timeout=60
            ).returncode


@pytest.fixture
def hosts(tmp_path: Path, place: Place) -> Iterator[Hosts]:
    place.declare("more")
    hosts = Hosts(tmp_path, place)
    yield hosts
    for worker in hosts.running.values():
        worker.destroy()


@pytest.mark.parametrize("place", ["rabbitmq"], indirect=True)
def test_a_killed_hosts_work_is_done_by_the_others(hosts: Hosts) -> None:
    hosts.first()
    two = hosts.join("two", "127.0.0.2")
    three = hosts.join("three", "127.0.0.3", "--offer", "gpu")
    everywhere = {"one": 1, "two": 1, "three": 2}
    for name in everywhere:
        until_is(everywhere, partial(hosts.handlers, name), FAR)

    put(hosts.place, "work", *numbers(range(1000)))
    until(lambda: all(len(w.handled()) > 20 for w in hosts.running.values()), why="all have some")
    two.destroy()
    until_is(set(range(1000)), lambda: set(hosts.times()), FAR)
    until_is({"one": 1, "three": 2}, hosts.handlers, FAR)
    again = [number for number, times in hosts.times().items() if times > 1]
    assert len(again) <= 4, "two messages of two bulks at the most"
    put(hosts.place, "more", *numbers(range(1000, 1010)))
    until_is(set(range(1000, 1010)), lambda: {n for n in three.times() if n >= 1000})
    until_is({}, lambda: hosts.running["one"].status()["totals"]["in_flight"] or {}, FAR)


@pytest.mark.parametrize("place", ["spool"], indirect=True)
def test_a_drained_host_loses_nothing_and_ends(hosts: Hosts) -> None:
    hosts.first()
    two = hosts.join("two", "127.0.0.2")
    three = hosts.join("three", "127.0.0.3")
    until_is({"one": 1, "two": 1, "three": 1}, hosts.handlers, FAR)
    put(hosts.place, "work", *numbers(range(400)))
    until(lambda: all(len(w.handled()) > 5 for w in hosts.running.values()), why="all have some")

    assert hosts.drain("two", on="three") == 0
    assert two.wait() == 0
    assert hosts.drain("four", on="three") == 78
    three.signal(signal.SIGTERM)
    assert three.wait() == 0
    until_is({"one": 1}, hosts.handlers, FAR)
    until_is(Counter(range(400)), hosts.times, FAR)
    one = hosts.running["one"]
    one.signal(signal.SIGTERM)
    assert one.wait() == 0


@pytest.mark.parametrize("place", ["spool"], indirect=True)
def test_another_leader_takes_the_hosts_of_one_that_died(hosts: Hosts) -> None:
    one = hosts.first()
    hosts.join("two", "127.0.0.2", "--offer", "gpu")
    other = hosts.join("other", "127.0.0.3", VERSION="2")
    until_is({"one": 1, "two": 2}, hosts.handlers, FAR)
    refused = until(lambda: hosts.host("other"), FAR, why="the host of another version asks")
    assert refused
    assert refused["state"] == "waiting"
    assert "version" in refused["reason"]

    one.destroy()
    alone = [("host", "waiting", f"leader {hosts.leader} does not answer")]
    until_is(alone, lambda: hosts.states("two"), FAR)
    hosts.first()
    until_is({"one": 1, "two": 2}, lambda: hosts.handlers("two"), FAR)
    put(hosts.place, "work", *numbers(range(100)))
    until_is(Counter(range(100)), hosts.times, FAR)
    assert other.handled() == []
