"""The same host plays on Thespian's simpleSystemBase, in the caller's own thread."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator

import pytest

from actors.stages.thespian.launcher import InProcess
from tests.support.thespian_cast import PLAN, Play, cast, report, report_of, until


@pytest.fixture
def stage() -> Iterator[InProcess]:
    handler = signal.getsignal(signal.SIGTERM)
    with cast():
        launcher = InProcess(PLAN)
        yield launcher
        launcher.shutdown(0.0)
    assert signal.getsignal(signal.SIGTERM) is handler


def test_children_are_created_introduced_and_told_of_when_they_leave(stage: InProcess) -> None:
    for name in ("kid#1", "kid#2"):
        stage.send(Play("create", (name,)))
    stage.send(Play("introduce", ("kid#1", "kid#2")))
    greet = Play("send", ("kid#2", Play("remind", (0.0, "from a sibling"))))
    stage.send(Play("send", ("kid#1", greet)))
    until(lambda: "from a sibling self" in report_of(stage, "kid#2")["heard"])
    assert report_of(stage, "kid#2")["pid"] == os.getpid()
    stage.send(Play("kill", ("kid#1",)))
    stage.send(Play("send", ("kid#2", Play("exit"))))
    until(
        lambda: (
            {"exited kid#1 exit code 0", "exited kid#2 exit code 0"} <= set(report(stage)["heard"])
        )
    )


def test_what_an_actor_raises_is_caught_and_its_message_run_once(stage: InProcess) -> None:
    stage.send(Play("fail"))
    assert report(stage)["heard"] == ["fail"]


def test_reminders_and_clients_need_no_watch(stage: InProcess) -> None:
    stage.send(Play("remind", (0.05, "later")))
    with socket.create_server(("127.0.0.1", 0)) as server:
        stage.send(Play("open", (server.getsockname()[1],)))
        peer = server.accept()[0]
        with peer:
            peer.sendall(b"one")
            until(lambda: {"later self", "one client"} <= set(report(stage)["heard"]))
            stage.send(Play("close"))
