"""The stage on real processes: what it promises to the actors that it plays."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from thespian.actors import ActorSystem, ActorSystemRequestTimeout, ChildActorExited

from actors.api.connector import resolve
from actors.errors import CallboardError
from actors.logic.supervision.fuse import FAILURES
from actors.roles.protocol import ReportStatus
from actors.stages.thespian import processes
from actors.stages.thespian.actor_process import Envelope
from actors.stages.thespian.launcher import LAUNCHER, ROOT, Launcher
from actors.stages.thespian.roles import CLIENTS, ROLES
from actors.stages.thespian.transport import address_of
from tests.support.thespian_cast import Play, on_stage, report, report_of, until


@pytest.fixture
def stage() -> Iterator[Launcher]:
    with on_stage() as launcher:
        yield launcher


def heard(stage: Launcher) -> Any:
    return report(stage)["heard"]


def create(stage: Launcher, name: str) -> int:
    stage.send(Play("create", (name,)))
    pid: int = report_of(stage, name)["pid"]
    return pid


def tell(stage: Launcher, name: str, action: str, *arguments: Any) -> None:
    stage.send(Play("send", (name, Play(action, arguments))))


@pytest.mark.parametrize(
    ("problem", "told"),
    [
        (ActorSystemRequestTimeout("too slow"), "the actor system did not start: .*: too slow"),
        (ActorSystemRequestTimeout(), "the actor system did not start: .*Timeout"),
        (KeyboardInterrupt("second thoughts"), "second thoughts"),
        (OSError("no room"), "no room"),
    ],
)
def test_a_start_that_fails_says_why_and_leaves_no_process(
    monkeypatch: pytest.MonkeyPatch, problem: BaseException, told: str
) -> None:
    sessions: list[int] = []
    end = processes.end

    def fail(*_: Any, **__: Any) -> None:
        raise problem

    def noted(session: int, seconds: float) -> list[int]:
        sessions.append(session)
        return end(session, seconds)

    monkeypatch.setattr(ActorSystem, "createActor", fail)
    monkeypatch.setattr(processes, "end", noted)
    with pytest.raises((CallboardError, type(problem)), match=told), on_stage():
        pass
    assert processes.members(*sessions) == []


def test_every_role_and_client_has_a_class() -> None:
    for path in (*ROLES.values(), *CLIENTS.values()):
        assert callable(resolve(path))


def test_each_actor_has_a_process_and_knows_its_own_name(stage: Launcher) -> None:
    pid = create(stage, "kid#1")
    kid = report_of(stage, "kid#1")
    assert (kid["name"], kid["pid"]) == ("kid#1", pid)
    assert len({pid, report(stage)["pid"], os.getpid()}) == 3


@pytest.mark.parametrize("action", ["fail", "leave_python"])
def test_what_an_actor_raises_is_caught_and_its_message_run_once(
    stage: Launcher, action: str
) -> None:
    stage.send(Play(action))
    after = report(stage)
    assert after["heard"] == [action]
    assert after["counts"] == {"failures": 1}


def test_an_actor_that_fails_at_every_message_is_replaced(stage: Launcher) -> None:
    create(stage, "kid#1")
    for _ in range(FAILURES):
        tell(stage, "kid#1", "fail")
    until(lambda: any(event.startswith("exited kid#1") for event in heard(stage)))


def test_a_message_that_is_not_one_of_ours_is_counted_and_changes_nothing(stage: Launcher) -> None:
    text: Any = "text"
    for foreign in (text, Envelope(ROOT, LAUNCHER, text), Envelope("root#0", "x", Play("fail"))):
        stage._base._tx_to_actor(stage._root, foreign)
    counts = until(lambda: len(c := report(stage)["counts"]) == 2 and c)
    assert counts == {"dropped an unknown message": 1, "dropped a message": 2}
    assert heard(stage) == []


def test_a_message_to_a_name_that_nobody_has_is_counted(stage: Launcher) -> None:
    stage.send(Play("send", ("nobody#1", ReportStatus())))
    assert report(stage)["counts"] == {"sent to nobody": 1}


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGBUS", "SIGFPE", "SIGILL"])
def test_a_crash_ends_the_process(stage: Launcher, name: str) -> None:
    create(stage, "kid#1")
    tell(stage, "kid#1", "signal_yourself", int(signal.Signals[name]))
    until(lambda: f"exited kid#1 killed by {name}" in heard(stage))


def test_actors_do_not_obey_sigterm_and_sigint(stage: Launcher) -> None:
    pid = create(stage, "kid#1")
    for each in (pid, report(stage)["pid"], stage.session):
        os.kill(each, signal.SIGTERM)
        os.kill(each, signal.SIGINT)
    assert report_of(stage, "kid#1")["pid"] == pid


def test_a_child_that_is_killed_is_told_of_once_and_when_it_is_dead(stage: Launcher) -> None:
    pid = create(stage, "kid#1")
    stage.send(Play("kill", ("kid#1",)))
    until(lambda: "exited kid#1 killed by SIGKILL" in heard(stage))
    assert pid not in processes.members(stage.session)


def test_a_child_that_leaves_is_told_of_when_it_is_dead(stage: Launcher) -> None:
    pid = create(stage, "kid#1")
    tell(stage, "kid#1", "exit")
    until(lambda: "exited kid#1 exit code 0" in heard(stage))
    assert pid not in processes.members(stage.session)


def test_a_child_that_says_goodbye_and_lingers_is_killed(stage: Launcher) -> None:
    create(stage, "kid#1")
    tell(stage, "kid#1", "linger")
    until(lambda: "exited kid#1 killed by SIGKILL" in heard(stage))


def test_a_second_childactorexited_for_one_child_is_ignored(stage: Launcher) -> None:
    create(stage, "kid#1")
    pid = create(stage, "kid#2")
    gone = ChildActorExited(address_of(report_of(stage, "kid#1")["port"]))
    stage.send(Play("kill", ("kid#1",)))
    until(lambda: "exited kid#1 killed by SIGKILL" in heard(stage))
    stage._base._tx_to_actor(stage._root, gone)
    stage._base._tx_to_actor(stage._root, gone)
    assert report_of(stage, "kid#2")["pid"] == pid
    assert [line for line in heard(stage) if "exited" in line] == ["exited kid#1 killed by SIGKILL"]


def test_a_role_that_cannot_be_played_is_a_child_that_exited(stage: Launcher) -> None:
    stage.send(Play("create", ("kid#1", "broken")))
    until(lambda: "exited kid#1 exit code 0" in heard(stage))


def test_reminders_come_in_the_order_in_which_they_are_due(stage: Launcher) -> None:
    for seconds, what in ((0.2, "last"), (0.05, "second"), (0.0, "first")):
        stage.send(Play("remind", (seconds, what)))
    lines = until(lambda: (h := heard(stage))[-1] == "last self" and h)
    assert [line for line in lines if line.endswith("self")] == [
        "first self",
        "second self",
        "last self",
    ]


def test_any_message_fires_a_reminder_whose_wakeup_was_lost(stage: Launcher) -> None:
    stage.send(Play("lose_wakeups", ()))
    stage.send(Play("remind", (0.05, "late")))
    until(lambda: "late self" in heard(stage))


def test_those_whom_neighbours_names_can_be_sent_to(stage: Launcher) -> None:
    create(stage, "kid#1")
    create(stage, "kid#2")
    stage.send(Play("introduce", ("kid#1", "kid#2")))
    tell(stage, "kid#1", "send", "kid#2", Play("remind", (0.0, "from a sibling")))
    until(lambda: "from a sibling self" in report_of(stage, "kid#2")["heard"])


def test_a_child_can_be_introduced_before_it_has_started(stage: Launcher) -> None:
    stage.send(Play("create", ("kid#1",)))
    stage.send(Play("create", ("kid#2",)))
    stage.send(Play("introduce", ("kid#1", "kid#2")))

    def greeted() -> bool:  # the introduction may be overtaken by what is said after it
        tell(stage, "kid#1", "send", "kid#2", Play("remind", (0.0, "from a sibling")))
        return "from a sibling self" in report_of(stage, "kid#2")["heard"]

    until(greeted)


def test_big_messages_cross_each_other(stage: Launcher) -> None:
    """On one socket for both directions both sides would wait for the other to read."""
    for name in ("kid#1", "kid#2"):
        create(stage, name)
    stage.send(Play("introduce", ("kid#1", "kid#2")))
    stage.send(Play("introduce", ("kid#2", "kid#1")))
    for _ in range(3):
        for one, other in (("kid#1", "kid#2"), ("kid#2", "kid#1")):
            tell(stage, one, "send_much", other, 16)
    for name in ("kid#1", "kid#2"):
        while report_of(stage, name)["heard"].count("take") < 3:
            pass


@pytest.fixture
def world() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(5)
        yield server


def opened(stage: Launcher, world: socket.socket) -> socket.socket:
    stage.send(Play("open", (world.getsockname()[1],)))
    report(stage)
    return world.accept()[0]


def test_a_client_is_turned_when_it_is_readable(stage: Launcher, world: socket.socket) -> None:
    with opened(stage, world) as peer:
        peer.sendall(b"one")
        until(lambda: "one client" in heard(stage))
        peer.sendall(b"two")
        until(lambda: "two client" in heard(stage))


def test_a_client_is_turned_when_its_deadline_moves(stage: Launcher, world: socket.socket) -> None:
    with opened(stage, world):
        stage.send(Play("due_in", (60.0,)))
        stage.send(Play("due_in", (0.05,)))
        until(lambda: "deadline client" in heard(stage))


def test_a_client_that_is_always_readable_starves_no_message(
    stage: Launcher, world: socket.socket
) -> None:
    with opened(stage, world) as peer:
        peer.setblocking(False)
        for _ in range(20):
            try:
                while True:
                    peer.send(b"a b " * 1000)
            except BlockingIOError:
                pass
            report(stage, seconds=1.0)


def test_an_actor_whose_client_cannot_be_watched_ends(
    stage: Launcher, world: socket.socket
) -> None:
    create(stage, "kid#1")
    tell(stage, "kid#1", "open", world.getsockname()[1])
    tell(stage, "kid#1", "break_client")
    until(lambda: "exited kid#1 exit code 0" in heard(stage))


def test_a_client_that_fails_ends_its_actor(stage: Launcher, world: socket.socket) -> None:
    create(stage, "kid#1")
    tell(stage, "kid#1", "open", world.getsockname()[1])
    report(stage)
    peer = world.accept()[0]
    with peer:
        peer.sendall(b"boom")
        until(lambda: "exited kid#1 exit code 0" in heard(stage))


def test_every_socket_listens_on_loopback(stage: Launcher) -> None:
    create(stage, "kid#1")
    listening = {  # inode: address; 0A is LISTEN
        fields[9]: fields[1]
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]
        if (fields := line.split())[3] == "0A"
    }
    pids = [os.getpid(), *processes.members(stage.session)]
    ours = [listening[inode] for pid in pids for inode in _sockets(pid) if inode in listening]
    assert len(ours) >= len(pids) == 4
    assert {address.partition(":")[0] for address in ours} == {"0100007F"}
    inodes = {inode for pid in pids for inode in _sockets(pid)}
    assert not [
        line
        for line in Path("/proc/net/tcp6").read_text().splitlines()[1:]
        if line.split()[9] in inodes
    ]


def _sockets(pid: int) -> list[str]:
    links = [os.readlink(each) for each in Path(f"/proc/{pid}/fd").iterdir() if each.is_symlink()]
    return [link[8:-1] for link in links if link.startswith("socket:[")]
