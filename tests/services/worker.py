"""A whole system in processes of its own, and the places that its messages come from."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol, TypeVar

from actors import Publisher
from actors.connectors.rabbitmq.admin import BrokerAdmin
from actors.connectors.spool.admin import SpoolAdmin, Stored
from actors.connectors.spool.file import SpoolFile
from actors.errors import ConfigurationError, UnreachableError
from actors.ops import system
from actors.ops.runtime_file import find
from tests.support.broker import Admin, Broker

REPOSITORY = Path(__file__).parents[2]
APPS = "tests.services.apps"
QUEUES = ("work", "more", "async", "class", "refused")  #: of all apps there

T = TypeVar("T")


def until(look: Callable[[], T], seconds: float = 20.0, why: str = "") -> T:
    """What `look` returns once it is true. Fails when the time is up."""
    deadline = time.monotonic() + seconds
    while not (seen := look()):
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {why or look} ({seen!r})"
        time.sleep(0.02)
    return seen


def until_is(wanted: object, look: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait until `look` returns what is wanted. Fails with what it returns when the time is up."""
    deadline = time.monotonic() + seconds
    while (seen := look()) != wanted:
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {wanted!r}, but {seen!r}"
        time.sleep(0.02)


class Worker:
    """`callboard run APP`, with its output, state and record of handled messages in `directory`."""

    def __init__(self, directory: Path, app: str, *flags: str, **environment: str) -> None:
        directory.mkdir(exist_ok=True, parents=True)
        self.directory = directory
        self.admin = 0  #: the process of Thespian's admin; 0: not known yet
        self._out, self._err = directory / "out", directory / "err"
        with self._out.open("ab") as out, self._err.open("ab") as err:
            self.launcher = subprocess.Popen(
                self.command(app, *flags),
                cwd=REPOSITORY,
                env={**os.environ, **self.environment(directory), **environment},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )

    @staticmethod
    def command(app: str, *flags: str) -> list[str]:
        app = app if ":" in app else f"{APPS}:{app}"
        return [sys.executable, "-m", "actors", "run", app, "--name", "test", *flags]

    @staticmethod
    def environment(directory: Path) -> dict[str, str]:
        return {
            "CALLBOARD_RUNTIME_DIR": str(directory / "run"),
            "CALLBOARD_STATE_DIR": str(directory / "state"),
            "CALLBOARD_LOG_FORMAT": "text",
            "RECORD": str(directory / "record"),
        }

    @property
    def output(self) -> str:
        return self._out.read_text() + self._err.read_text()

    # ── how it is ────────────────────────────────────────────────────────────

    def status(self) -> dict[str, Any]:
        """Its report; empty while it starts, is asked in vain, or has ended."""
        try:
            found = find(self.directory / "run", "test", None)
            if found is None:
                return {}
            self.admin = found["pids"]["admin"]
            return system.status("test", 2.0, runtime_dir=self.directory / "run") or {}
        except UnreachableError:
            return {}

    def totals(self) -> dict[str, int]:
        """The totals of its report that are not zero."""
        return {key: count for key, count in self.status().get("totals", {}).items() if count}

    def ready(self, seconds: float = 20.0) -> dict[str, Any]:
        """Its report, once it is ready."""

        def look() -> dict[str, Any]:
            code = self.launcher.poll()
            assert code is None, f"ended with {code}: {self.output}"
            report = self.status()
            return report if report.get("ready") else {}

        return until(look, seconds, "ready")

    def pids(self, role: str) -> list[int]:
        """Processes that play a role; "admin" is Thespian's own."""
        report = self.ready()
        if role == "admin":
            return [self.admin]
        actors = report["actors"]
        if role == "root":
            return [actor["pid"] for actor in actors if actor["name"] == "root"]
        if role == "pipeline":
            found = [actor for actor in actors if actor["role"] == "supervisor"]
            return [actor["pid"] for actor in found if actor["name"] != "root"]
        return [actor["pid"] for actor in actors if actor["role"] == role]

    def living(self) -> list[int]:
        """Every process of it, the launcher included: forks have its environment."""
        mark = f"RECORD={self.directory / 'record'}\0".encode()
        found = []
        for entry in os.listdir("/proc"):
            with suppress(OSError):  # gone since we looked
                if entry.isdigit() and mark in Path(f"/proc/{entry}/environ").read_bytes():
                    found.append(int(entry))
        return found

    def handled(self) -> list[dict[str, Any]]:
        """What its handlers have put on the record, in order."""
        record = self.directory / "record"
        text = record.read_text() if record.exists() else ""
        whole, _, _ = text.rpartition("\n")  # the last line may be on its way
        return [json.loads(line) for line in whole.splitlines()]

    def times(self) -> Counter[int]:
        """How often each number was handled."""
        return Counter(line["n"] for line in self.handled())

    # ── its end ──────────────────────────────────────────────────────────────

    def signal(self, number: int, *, to_all: bool = False) -> None:
        for pid in self.living() if to_all else [self.launcher.pid]:
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def wait(self, seconds: float = 40.0) -> int:
        """Its exit code, once it ends; no process of it may be left."""
        try:
            code = self.launcher.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still runs after {seconds:g} s: {self.output}") from None
        until(lambda: not self.living(), 2.0, f"no process left, {self.output}")
        return code

    def destroy(self) -> None:
        self.signal(signal.SIGKILL, to_all=True)
        self.launcher.wait(5)


class Place(Protocol):
    """Queues of a connection, seen from outside."""

    url: str

    def declare(self, queue: str, **arguments: Any) -> None: ...

    def ready(self, queue: str) -> int:
        """Messages that are there and in nobody's hand."""

    def dead(self, queue: str) -> list[Stored]: ...


def put(place: Place, queue: str, *bodies: dict[str, Any]) -> None:
    with Publisher(place.url) as publisher:
        publisher.put_many(queue, [json.dumps(body).encode() for body in bodies])


def numbers(among: Iterable[int]) -> list[dict[str, Any]]:
    return [{"n": n} for n in among]


class SpoolPlace:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.url = f"spool://{path}"
        self._admin = SpoolAdmin(SpoolFile(path))

    def declare(self, queue: str, **arguments: Any) -> None:
        """A spool has every queue."""

    def ready(self, queue: str) -> int:
        counts = {count.queue: count for count in self._admin.queues()}
        return counts[queue].ready + counts[queue].delayed if queue in counts else 0

    def dead(self, queue: str) -> list[Stored]:
        return self._admin.dead(queue)


class BrokerPlace:
    def __init__(self, broker: Broker, vhost: str) -> None:
        self.broker = broker
        self._vhost = vhost
        self.url = f"amqp://{broker.user}:{broker.password}@{broker.host}:{broker.port}/{vhost}"

    @contextmanager
    def admin(self) -> Iterator[Admin]:
        admin = Admin(self.broker, self._vhost)
        yield admin
        admin.connection.close()

    def declare(self, queue: str, **arguments: Any) -> None:
        with self.admin() as admin:
            admin.declare(queue, **arguments)

    def ready(self, queue: str) -> int:
        with self.admin() as admin:
            return admin.ready(queue)

    def dead(self, queue: str) -> list[Stored]:
        try:
            return BrokerAdmin(self.broker.settings(self._vhost)).dead(queue)
        except ConfigurationError:  # the queue is made with the first dead letter
            return []

    def delete(self, queue: str) -> None:
        with self.admin() as admin:
            admin.channel.queue_delete(queue)

    def delete_all(self) -> None:
        """Every queue that an app of these tests may have."""
        with self.admin() as admin:
            for queue in QUEUES:
                for suffix in ("", ".dead", ".retry.1"):
                    admin.channel.queue_delete(queue + suffix)
