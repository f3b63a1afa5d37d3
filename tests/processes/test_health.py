"""What the outside is told of a system: probes, systemd, and where metrics are kept."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from http import HTTPStatus
from math import inf
from pathlib import Path
from typing import Any

import pytest

from actors.ops import health
from actors.ops.health import LIVE_FOR, Health
from actors.ops.systemd import SystemdNotifier
from actors.usercode.metrics_registry import DIRECTORY
from tests.processes.test_probe_server import ask
from tests.support.broker import free_port


def report(state: str = "running", connection: dict[str, str] | None = None) -> dict[str, Any]:
    actor = {
        "role": "connection", "name": "spool/connection", "pid": 7, "state": "running",
        "host": "here", "reason": "", "restarts": 0,
    }  # fmt: skip
    counts = dict.fromkeys(
        ("received", "acked", "rejected", "requeued", "retried", "dead", "in_flight"), 0
    )
    return {
        "app": "a:app", "name": "a", "version": "7", "state": state, "ready": state == "running",
        "since": "", "actors": [actor | (connection or {})], "totals": {**counts, "stale": 2},
        "routes": [{"name": 'a"b\n', **counts, "received": 5, "oldest_s": 1.5}],
    }  # fmt: skip


LOST = {"state": "reconnecting", "reason": "amqp://me:secret@mq/ refused"}


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(health, "time", clock)
    return clock


@pytest.fixture(params=["path", "abstract"])
def systemd(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[socket.socket]:
    """A socket as systemd has it; it is watched over a second."""
    address = str(tmp_path / "notify") if request.param == "path" else f"@callboard-{os.getpid()}"
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listener.bind(address.replace("@", "\0") if address[0] == "@" else address)
    listener.setblocking(False)
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    monkeypatch.setenv("WATCHDOG_USEC", "1000000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    yield listener
    listener.close()


def said(listener: socket.socket) -> list[str]:
    lines: list[str] = []
    while True:
        try:
            lines += listener.recv(4096).decode().split("\n")
        except BlockingIOError:
            return lines


def word(state: Health, path: str) -> tuple[int, str]:
    answer = state.answer(path)
    assert answer is not None
    return answer.status, answer.body.decode()


# ── probes ────────────────────────────────────────────────────────────────────


def test_ready_means_consuming_and_not_draining_and_alive_does_not(
    clock: Clock, tmp_path: Path
) -> None:
    state = Health("", tmp_path / "metrics")
    assert word(state, "/readyz") == (503, "starting\n")
    state.hear(report("starting", LOST))
    assert word(state, "/readyz") == (503, "starting\n")
    assert word(state, "/livez") == (200, "ok\n"), "a broker that is away is not our death"
    state.hear(report())
    assert word(state, "/readyz") == (200, "ok\n")
    state.drain(25)
    assert word(state, "/readyz") == (503, "draining\n")
    assert word(state, "/livez") == (200, "ok\n")


def test_who_does_not_hear_of_the_root_is_not_alive(clock: Clock, tmp_path: Path) -> None:
    state = Health("", tmp_path / "metrics")
    state.hear(report())
    clock.now += LIVE_FOR - 1
    assert word(state, "/livez") == (200, "ok\n")
    clock.now += 2
    assert word(state, "/livez") == (503, "silent\n")
    assert word(state, "/readyz") == (503, "silent\n")
    state.hear(report())
    assert word(state, "/livez") == (200, "ok\n")


def test_a_drain_that_began_elsewhere_is_one_as_long_as_it_lasts(tmp_path: Path) -> None:
    state = Health("", tmp_path / "metrics")
    state.hear(report("draining"))
    assert word(state, "/readyz") == (503, "draining\n")
    state.hear(report())  # of the next leader
    assert word(state, "/readyz") == (200, "ok\n")


def test_the_page_of_metrics_is_made_once_for_each_report(clock: Clock, tmp_path: Path) -> None:
    state = Health("", tmp_path, "here")
    assert word(state, "/metrics") == (503, "starting\n")
    state.hear(report())
    first = state.answer("/metrics")
    assert first is not None
    assert b'callboard_messages_received_total{route="a\\"b\\n"} 5.0' in first.body
    assert b"callboard_settlements_stale_total 2.0" in first.body
    assert b'callboard_connected{connection="spool"} 1.0' in first.body
    assert state.answer("/metrics") == first
    clock.now += 1
    state.hear(report("starting", LOST))
    second = state.answer("/metrics")
    assert second is not None
    assert b'callboard_connected{connection="spool"} 0.0' in second.body


def test_the_page_of_a_host_says_nothing_that_is_on_the_page_of_another(tmp_path: Path) -> None:
    handler = {"role": "handler", "name": "spool/words/1", "host": "there"}
    both = report()
    both["actors"].append(both["actors"][0] | handler)
    pages = []
    for host in ("here", "there"):
        state = Health("", tmp_path, host)
        state.hear(both)
        answer = state.answer("/metrics")
        assert answer is not None
        pages.append(answer.body)
    here, there = pages
    assert b"callboard_messages_received_total" in here
    assert b"callboard_messages_received_total" not in there
    assert b'callboard_actors_up{role="handler"} 0.0' in here
    assert b'callboard_actors_up{role="handler"} 1.0' in there
    assert b"spool/words/1" in there
    assert b"spool/words/1" not in here


def test_no_page_shows_why_or_where(tmp_path: Path) -> None:
    state = Health("", tmp_path, "here")
    state.hear(report("starting", LOST))
    for path in ("/livez", "/readyz", "/metrics"):
        answer = state.answer(path)
        assert answer is not None
        assert b"secret" not in answer.body
        assert b"amqp:" not in answer.body
    assert state.answer("/status") is None


def test_it_answers_from_its_opening_to_its_end_and_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(DIRECTORY, raising=False)
    directory, port = tmp_path / "metrics", free_port()
    directory.mkdir()
    (directory / "counter_of_one_that_was_killed.db").touch()
    with Health(f"127.0.0.1:{port}", directory) as state:
        assert list(directory.iterdir()) == []
        assert directory.stat().st_mode & 0o777 == 0o700
        assert os.environ[DIRECTORY] == str(directory)
        assert state.interval == health.INTERVAL
        state.open()
        assert ask(port, path="/livez")[0] == HTTPStatus.OK
        assert ask(port, path="/readyz")[0] == HTTPStatus.SERVICE_UNAVAILABLE
    with pytest.raises(ConnectionRefusedError):
        ask(port)
    assert not directory.exists()
    assert DIRECTORY not in os.environ


def test_where_nobody_listens_nothing_is_asked_for(tmp_path: Path) -> None:
    with Health("", tmp_path / "metrics") as state:
        state.open()
        assert state.interval == inf
        state.look(0.0)
        state.drain(1.0)
    assert list(tmp_path.iterdir()) == []


# ── systemd ───────────────────────────────────────────────────────────────────


def test_systemd_hears_of_the_start_of_readiness_of_life_and_of_the_end(
    systemd: socket.socket, clock: Clock, tmp_path: Path
) -> None:
    with Health("", tmp_path / "metrics") as state:
        assert state.interval == 0.5, "half of what it waits"
        state.look(clock.now)
        assert said(systemd) == ["WATCHDOG=1", "EXTEND_TIMEOUT_USEC=30000000", "STATUS=starting"]
        state.hear(report("starting", LOST))
        state.look(clock.now)
        why = "STATUS=connection spool: amqp://me:***@mq/ refused"
        assert said(systemd) == ["WATCHDOG=1", "EXTEND_TIMEOUT_USEC=30000000", why]
        state.hear(report())
        state.look(clock.now)
        assert said(systemd) == ["WATCHDOG=1", "READY=1", "STATUS=ready"]
        state.look(clock.now)
        assert said(systemd) == ["WATCHDOG=1"]
        clock.now += LIVE_FOR
        state.look(clock.now)
        assert said(systemd) == [], "the root is silent: no sign of life"
        state.drain(25)
        assert said(systemd) == ["STOPPING=1", "STATUS=draining", "EXTEND_TIMEOUT_USEC=55000000"]
        state.drain(25)
        state.hear(report("draining"))
        state.look(clock.now)
        assert said(systemd) == ["WATCHDOG=1"]


def test_a_word_that_systemd_did_not_take_is_said_again(
    clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "notify"
    monkeypatch.setenv("NOTIFY_SOCKET", str(place))
    with Health("", tmp_path / "metrics") as state:
        state.hear(report())
        state.look(clock.now)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
            listener.bind(str(place))
            listener.setblocking(False)
            state.look(clock.now)
            assert said(listener) == ["READY=1", "STATUS=ready"]


def test_what_names_systemds_socket_is_taken_out_of_the_environment(
    systemd: socket.socket,
) -> None:
    SystemdNotifier().close()
    assert not {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"} & os.environ.keys()


@pytest.mark.parametrize(
    ("variable", "value"), [("WATCHDOG_PID", "1"), ("WATCHDOG_USEC", "0"), ("WATCHDOG_USEC", "x")]
)
def test_a_watch_over_somebody_else_is_not_ours(
    systemd: socket.socket, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    notifier = SystemdNotifier()
    assert not notifier.watches
    assert notifier.tell("STATUS=here")
    assert said(systemd) == ["STATUS=here"]
    notifier.close()


def test_a_socket_that_is_neither_a_path_nor_abstract_is_told_and_left(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING, "actors.system")  # others may have set what is above it
    notifier = SystemdNotifier({"NOTIFY_SOCKET": "vsock:2:1"})
    assert not notifier.told
    assert "NOTIFY_SOCKET: neither a path nor an abstract name" in caplog.text
