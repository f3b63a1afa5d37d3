"""A puppet to put on the real stage: it does what it is told and reports what it heard."""

from __future__ import annotations

import json
import logging
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from actors.ops import system
from actors.plan.network import Network
from actors.plan.plan import Plan
from actors.roles.protocol import (
    ActorMessage,
    ChildExited,
    Configure,
    Drain,
    Drained,
    Failed,
    Neighbours,
    Reminder,
    ReportStatus,
    Status,
)
from actors.stages.thespian import processes
from actors.stages.thespian.actor_process import ProcessContext
from actors.stages.thespian.launcher import InProcess, Launcher
from actors.stages.thespian.roles import CLIENTS, ROLES

PLAN = Plan(app="tests:app", name="puppets", pipelines=(), shutdown_timeout=2.0)

PUPPET = "tests.support.thespian_cast:Puppet"


@contextmanager
def cast() -> Iterator[None]:
    """Puppets in the roles, for as long as it lasts: other tests play the real ones."""
    roles = {
        "root": PUPPET,
        "host": PUPPET,
        "puppet": PUPPET,
        "broken": "tests.support.thespian_cast:Nobody",
    }
    clients = {"pipe": "tests.support.thespian_cast:Pipe"}
    with patch.dict(ROLES, roles), patch.dict(CLIENTS, clients):
        yield


@dataclass(frozen=True, slots=True, repr=False)
class Play(ActorMessage):
    """Do something: a method of `Puppet` and its arguments."""

    action: str
    arguments: tuple[Any, ...] = ()


class Pipe:
    """A client: a socket that is readable when somebody wrote to it, and a deadline."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setblocking(False)
        self.due: float | None = None
        self.broken = False

    def fileno(self) -> int:
        if self.broken:
            raise RuntimeError("the client has no file any more")
        return self._socket.fileno()

    def deadline(self) -> float | None:
        return self.due

    def turn(self, now: float) -> list[Any]:
        events: list[Any] = []
        if self.due is not None and now >= self.due:
            self.due = None
            events.append("deadline")
        with suppress(BlockingIOError):
            events += self._socket.recv(4).decode().split()  # little: the rest stays readable
        if "boom" in events:
            raise RuntimeError("the client is broken")
        return events

    def close(self) -> None:
        self._socket.close()


class Puppet:
    def __init__(self, context: ProcessContext) -> None:
        self.context = context
        self.heard: list[str] = []
        self.reports: dict[str, Any] = {}
        self.client: Any = None

    def on(self, message: Any, sender: str, now: float) -> None:
        match message:
            case Play(action=action, arguments=arguments):
                if action != "send":
                    self.heard.append(action)
                getattr(self, action)(*arguments)
            case ReportStatus(round=number):
                self.context.send(sender, Status(number, json.dumps(self.report())))
            case Status(round=number, report=report):
                self.reports[f"{sender} {number}"] = json.loads(report)
            case ChildExited(child=child, cause=cause):
                self.heard.append(f"exited {child} {cause}")
            case Reminder(what=what):
                self.heard.append(f"{what} {sender}")
            case Drain():
                self.context.send(sender, Drained())
            case Configure(plan=Plan(app="never drains")):
                self.on = self.stubborn  # type: ignore[method-assign]
            case str():
                self.heard.append(f"{message} {sender}")

    def stubborn(self, message: Any, sender: str, now: float) -> None:
        if isinstance(message, ReportStatus):
            self.context.send(sender, Status(message.round, "{}"))

    def report(self) -> dict[str, Any]:
        transport = getattr(self.context._process._myRef, "transport", None)
        return {
            "name": self.context.name,
            "pid": self.context.pid,
            "heard": self.heard,
            "counts": dict(self.context.throttled_log.counts),
            "port": getattr(transport, "port", 0),
            "refused": dict(transport.throttled_log.counts) if transport else {},
            "reports": self.reports,
        }

    def send(self, to: str, message: ActorMessage) -> None:
        self.context.send(to, message)

    def create(self, name: str, role: str = "puppet") -> None:
        self.context.create(name, role)
        self.context.send(name, Configure(PLAN, role, supervisor=self.context.name))

    def kill(self, name: str) -> None:
        self.context.kill(name)

    def exit(self) -> None:
        self.context.exit()

    def fail(self) -> None:
        raise RuntimeError("as told")

    def leave_python(self) -> None:
        raise SystemExit(3)

    def linger(self) -> None:
        threading.Thread(target=time.sleep, args=(60,)).start()
        self.context.exit()

    def remind(self, seconds: float, what: str) -> None:
        self.context.remind(seconds, Reminder(what))

    def lose_wakeups(self) -> None:
        self.context._process.wakeupAfter = lambda *_: None

    def send_much(self, to: str, megabytes: int) -> None:
        self.context.send(to, Play("take", (bytes(megabytes << 20),)))

    def take(self, data: bytes) -> None:
        pass

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def signal_yourself(self, number: int) -> None:
        os.kill(os.getpid(), number)

    def introduce(self, to: str, other: str) -> None:
        self.context.send(to, Neighbours(connection=other))

    def ask(self, to: str, number: int, times: int = 1) -> None:
        for _ in range(times):
            self.context.send(to, ReportStatus(number))

    def open(self, port: int) -> None:
        self.client = self.context.client("pipe", port)

    def break_client(self) -> None:
        self.client.broken = True

    def close(self) -> None:
        self.context.close_client()

    def due_in(self, seconds: float) -> None:
        self.client.due = time.monotonic() + seconds

    def log(self, text: str) -> None:
        logging.getLogger("puppet").info("%s", text)

    def finish(self, left: int) -> None:
        self.context.send("launcher", Drained(left))

    def give_up(self, code: int, reason: str) -> None:
        self.context.send("launcher", Failed(code, reason))


def until(condition: Callable[[], Any], seconds: float = 5.0) -> Any:
    """Wait for something to be true and return it."""
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.01)
    return result


def report(launcher: Launcher | InProcess, seconds: float = 5.0) -> dict[str, Any]:
    """What the root has heard."""
    number = time.monotonic_ns()
    launcher.send(ReportStatus(number))
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        answer = launcher.receive(0.05)
        if isinstance(answer, Status) and answer.round == number:
            result: dict[str, Any] = json.loads(answer.report)
            return result
    raise AssertionError("the root does not answer")


def report_of(launcher: Launcher | InProcess, child: str) -> dict[str, Any]:
    """What a child of the root has heard, until now."""
    launcher.send(Play("send", (child, ReportStatus())))
    number = time.monotonic_ns()
    launcher.send(Play("send", (child, ReportStatus(number))))
    return until(lambda: report(launcher)["reports"].get(f"{child} {number}"))  # type: ignore[no-any-return]


@contextmanager
def on_stage(network: Network | None = None) -> Iterator[Launcher]:
    with cast():
        launcher = Launcher(PLAN, network=network)
        try:
            yield launcher
        finally:
            assert launcher.shutdown(1.0) == []
            assert processes.members(launcher.session) == []


#: A program that runs puppets: RUNTIME_DIRECTORY APP.
MAIN = "from tests.support.thespian_cast import main; main()"


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(process)d %(message)s")
    directory, app = sys.argv[1:]
    plan = Plan(app=app, name="puppets", pipelines=(), shutdown_timeout=0.5)
    with cast():
        sys.exit(system.run(plan, name="puppets", runtime_dir=Path(directory)))
