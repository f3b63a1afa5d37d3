"""Secrets are nowhere but where they must be, and strangers change nothing."""

from __future__ import annotations

import os
import pickle
import secrets
import signal
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from actors.stages.link.session import GREETING_SIZE, Identity, Sender
from tests.services.conftest import Run
from tests.services.worker import BrokerPlace, Place, Worker, numbers, put, until, until_is
from tests.stress.proxy import Proxy
from tests.stress.rig import account, callboard, listening, stop
from tests.support.broker import Broker
from tests.support.sse_server import SSEServer, status, stream

APPS = "tests.stress.apps"


@pytest.fixture
def canary() -> str:
    return f"canary-{secrets.token_hex(8)}"


def command_lines(worker: Worker) -> dict[int, str]:
    pids = set(worker.living()) - {worker.launcher.pid}
    return {pid: Path(f"/proc/{pid}/cmdline").read_bytes().decode() for pid in pids}


def nowhere(canary: str, worker: Worker) -> None:
    """Not in what it says, nor in what others can see of it."""
    seen = {
        "output": worker.output,
        "status": callboard(worker, "status", "test"),
        "status --json": callboard(worker, "status", "test", "--json"),
        **{f"command line of {pid}": line for pid, line in command_lines(worker).items()},
    }
    assert worker.output
    assert [where for where, text in seen.items() if canary in text] == []
    for path in (worker.directory / "run").iterdir():
        assert path.stat().st_mode & 0o077 == 0


def with_password(broker: Broker, canary: str, vhost: str, port: int) -> str:
    broker.evaluate(
        f'rabbit_auth_backend_internal:add_user(<<"{canary[-8:]}">>, <<"{canary}">>, <<"test">>), '
        f'rabbit_auth_backend_internal:set_permissions(<<"{canary[-8:]}">>, <<"{vhost}">>, '
        '<<".*">>, <<".*">>, <<".*">>, <<"test">>).'
    )
    return f"amqp://{canary[-8:]}:{canary}@127.0.0.1:{port}/{vhost}"


@pytest.mark.parametrize("by", ["environment", "flag"])
def test_the_password_of_a_broker(
    own_rabbitmq: BrokerPlace, run: Run, canary: str, by: str
) -> None:
    """Whatever befalls the connection and the handler, at the most talkative level."""
    broker = own_rabbitmq.broker
    proxy = Proxy(broker.port)
    url = with_password(broker, canary, urlsplit(own_rabbitmq.url).path[1:], proxy.port)
    flags = ("--connection", url) if by == "flag" else ()
    variables = {"CALLBOARD_CONNECTION": url} if by == "environment" else {}
    worker = run("plain", *flags, "--log-level", "debug", **variables)
    worker.ready()
    put(own_rabbitmq, "work", {"n": 1, "do": "raise once"}, {"n": 2})
    until_is({1, 2}, lambda: set(worker.times()))
    nowhere(canary, worker)
    proxy.reset()
    until(lambda: "lost: " in worker.output)
    worker.ready(35.0)
    (pid,) = worker.pids("connection")
    os.kill(pid, signal.SIGKILL)
    until(lambda: "died: " in worker.output)
    worker.ready(35.0)
    broker.ctl("change_password", canary[-8:], "another")
    proxy.reset()
    until(lambda: "ACCESS_REFUSED" in worker.output, 35.0)
    nowhere(canary, worker)
    assert "Traceback" in worker.output  # of the handler: there was something to find
    stop(worker)
    assert canary not in worker.output
    broker.ctl("delete_user", canary[-8:])
    proxy.close()


def test_the_token_of_an_event_stream(run: Run, canary: str) -> None:
    """In the query of its URL, in its headers, and as a password."""
    answers = (
        status("500 Broken", b"no"),
        stream('id: 1\ndata: {"n": 1}\n\n', hold=False, reset=True),
        stream('id: 2\ndata: {"n": 2}\n\n'),
    )
    with SSEServer(*answers) as server:
        worker = run(
            f"{APPS}:stream", "--log-level", "debug",
            STREAM=f"{server.url}?token={canary}", SECRET=canary,
        )  # fmt: skip
        until_is({1, 2}, lambda: set(worker.times()), 45.0)
        assert server.requests[-1].headers["x-token"] == canary
        nowhere(canary, worker)
        stop(worker)
        assert canary not in worker.output
        for path in (worker.directory / "state").rglob("*"):
            assert path.is_dir() or canary.encode() not in path.read_bytes()


# ── TLS ──────────────────────────────────────────────────────────────────────


def test_a_broker_is_reached_through_tls_by_its_own_name_alone(
    own_rabbitmq: BrokerPlace, run: Run
) -> None:
    broker, vhost = own_rabbitmq.broker, urlsplit(own_rabbitmq.url).path[1:]
    address = f"{broker.tls_port}/{vhost}?ca_file={broker.ca_file}"
    put(own_rabbitmq, "work", *numbers(range(10)))
    wrong = run("plain", "--connection", f"amqps://guest:guest@127.0.0.1:{address}")
    assert wrong.wait(20.0) == 78
    assert "TLS: " in wrong.output.splitlines()[-1]
    assert wrong.handled() == []
    right = run("plain", "--connection", f"amqps://guest:guest@localhost:{address}", "--burst")
    assert right.wait() == 0
    assert set(right.times()) == set(range(10))


# ── strangers ────────────────────────────────────────────────────────────────


class Trap:
    """Unpickling this leaves a trace."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def under_another_key(port: int, body: bytes) -> bytes:
    """A connection as one of ours would open it, but for the key."""
    here = ("127.0.0.1", 9)
    greeting = b"CBT1".ljust(GREETING_SIZE, b"\0")
    sender = Sender(Identity((os.urandom(32),), here), ("127.0.0.1", port), greeting)
    return b"".join((sender.hello, *sender.seal(1, body)))


def test_strangers_change_nothing_on_any_port_of_a_system_under_load(
    place: Place, run: Run, tmp_path: Path
) -> None:
    """Thespian's own frames, absurd lengths, noise, frames of another key, silence."""
    trace = tmp_path / "unpickled"
    put(place, "work", *numbers(range(2000)))
    worker = run("plain", "--connection", place.url, PACE="0.02")
    until(lambda: worker.handled() and worker.status().get("ready"))
    before = sorted(worker.living())
    trap = pickle.dumps(Trap(trace))
    doors = listening(before)
    assert len(doors) == 7  # of launcher and admin, two supervisors and three actors
    silent = []
    for address, port in doors:
        assert address == "0100007F"  # 127.0.0.1
        for frame in (
            b"%d>" % len(trap) + trap,
            b"99999999999>" + trap,
            trap,
            os.urandom(4096),
            under_another_key(port, trap),
            b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        ):
            # It may be hung up on before it is done.
            with suppress(ConnectionError), socket.create_connection(("127.0.0.1", port)) as one:
                one.sendall(frame)
        silent += [socket.create_connection(("127.0.0.1", port), 5.0) for _ in range(5)]
    account(worker, place, 2000)
    for stranger in silent:
        stranger.close()
    assert not trace.exists()
    assert "died" not in worker.output
