"""Boots, drains and asks a running system.

Nothing here imports Thespian before a system is to be started or asked.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from math import inf
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from actors.errors import ConfigurationError, Exit, UnreachableError
from actors.log import own_logger
from actors.ops.health import Health
from actors.ops.runtime_file import RuntimeFile, find, runtime_directory
from actors.plan.network import Network, read_keys
from actors.plan.plan import NodePlan, Plan
from actors.roles.protocol import ActorMessage, Drain, Drained, Failed, ReportStatus, Status
from actors.roles.supervision.node_protocol import NodeLeave, NodeLeaving

if TYPE_CHECKING:
    from actors.stages.thespian.launcher import Launcher

log = own_logger("actors.system")

STATUS_INTERVAL = 0.2  #: seconds between looks at the root for `on_status`
OVERTIME_S = 2.0  #: seconds that the root may exceed the time it was given to drain
GRACE = 1.0  #: seconds for what is left to end by itself

OnStatus = Callable[[dict[str, Any]], None]


def run(
    plan: Plan | NodePlan,
    *,
    name: str,
    admin_port: int = 0,
    network: Network | None = None,
    runtime_dir: Path | None = None,
    on_status: OnStatus | None = None,
    health: str = "",
) -> int:
    """Play `plan` until it is done or a signal ends it; return the exit code.

    With a network it can be joined by other hosts, or joins others; else it is on loopback.
    `health` is the `HOST:PORT` to answer probes on.

    The first SIGTERM, SIGINT or SIGHUP drains, the second stops at once. When this returns,
    every process of the system is gone. To be called in the main thread. Raises
    `ConfigurationError` for a name, an admin port or an address that is in use.
    """
    with (
        RuntimeFile(runtime_dir or runtime_directory(), name) as file,
        Health(health, file.metrics, plan.host) as outside,
        _signals() as signals,
    ):
        from actors.stages.thespian.launcher import Launcher

        since = datetime.now(UTC).isoformat(timespec="seconds")
        launcher = Launcher(replace(plan, since=since), admin_port, network)
        code: int = Exit.CRASH
        try:
            outside.open()
            file.write(
                {
                    "name": name,
                    "host": launcher.network.host,
                    "admin_port": launcher.admin_port,
                    **_key(launcher.network),
                    "pids": {"launcher": os.getpid(), "admin": launcher.session},
                }
            )
            code = _Watch(launcher, plan, signals, outside, on_status).keep()
        finally:
            at_once = signals.count > 1 or code == Exit.CRASH
            if left := launcher.shutdown(0.0 if at_once else GRACE):
                log.error("processes that could not be ended: %s", left)
        return code


def status(
    name: str | None,
    timeout: float = 5.0,
    *,
    admin_port: int | None = None,
    runtime_dir: Path | None = None,
) -> dict[str, Any] | None:
    """How a running system is; None where none runs. Starts nothing.

    Without a name or an admin port, the only one that runs. Raises `ConfigurationError`
    where several run, `UnreachableError` where the root does not answer in `timeout` seconds.
    """
    found = find(runtime_dir or runtime_directory(), name, admin_port)
    if found is None:
        return None
    answer = _ask(found, ReportStatus(), timeout)
    assert isinstance(answer, Status)
    report: dict[str, Any] = json.loads(answer.report)
    return report


def leave(
    host: str, name: str | None, timeout: float = 5.0, *, runtime_dir: Path | None = None
) -> bool:
    """Have a host of the system that runs here move its work away, and end; False: none runs.

    Raises `ConfigurationError` where there is no host of this name, else as `status`.
    """
    found = find(runtime_dir or runtime_directory(), name, None)
    if found is None:
        return False
    answer = _ask(found, NodeLeave(host), timeout)
    assert isinstance(answer, NodeLeaving)
    if answer.problem:
        raise ConfigurationError(answer.problem)
    return True


def _ask(found: dict[str, Any], question: ActorMessage, timeout: float) -> ActorMessage:
    from actors.stages.thespian.launcher import ask

    answer = ask(_network(found), question, timeout)
    if answer is None:
        raise UnreachableError(f"{found['name']} runs, but did not answer within {timeout:g} s")
    return answer


def _key(network: Network) -> dict[str, str]:
    """The key as a runtime file has it; one that hosts share stays where it is."""
    if network.key_file:
        return {"key_file": network.key_file}
    return {"key": network.keys[0].hex()}


def _network(found: dict[str, Any]) -> Network:
    """How the system is reached of which a runtime file tells."""
    if key_file := found.get("key_file"):
        keys = read_keys(key_file)
    else:
        keys = (bytes.fromhex(found["key"]),)
    return Network(found["host"], found["admin_port"], keys)


class _Signals:
    """The number of requests to end; readable on `fd` when one comes."""

    def __init__(self) -> None:
        self.count = 0
        self.fd, self._write_fd = os.pipe()
        self._pid = os.getpid()
        os.set_blocking(self.fd, False)
        os.set_blocking(self._write_fd, False)

    def note(self, _signum: int, _frame: FrameType | None) -> None:
        if os.getpid() == self._pid:  # a fork has this handler until it sets its own
            self.count += 1
            os.write(self._write_fd, b".")

    def clear(self) -> None:
        try:
            os.read(self.fd, 64)
        except BlockingIOError:
            return

    def close(self) -> None:
        os.close(self.fd)
        os.close(self._write_fd)


@contextmanager
def _signals() -> Iterator[_Signals]:
    signals = _Signals()
    asked = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        asked.remove(signal.SIGHUP)  # nohup
    before = {each: signal.signal(each, signals.note) for each in asked}
    try:
        yield signals
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
        signals.close()


class _Watch:
    """The launcher's work while the system plays."""

    def __init__(
        self,
        launcher: Launcher,
        plan: Plan | NodePlan,
        signals: _Signals,
        outside: Health,
        on_status: OnStatus | None,
    ) -> None:
        self._launcher = launcher
        self._plan = plan
        self._signals = signals
        self._outside = outside
        self._on_status = on_status
        self._drain_by = inf
        self._interval = min(STATUS_INTERVAL if on_status else inf, outside.interval)
        self._ask_at = 0.0 if self._interval < inf else inf
        self._round = 0

    def keep(self) -> int:
        """Wait for the end; return the exit code."""
        code = None
        while code is None:
            code = self._turn(time.monotonic())
        return code

    def _turn(self, now: float) -> int | None:
        if self._signals.count > 1:
            log.warning("stopped at once, by a second signal")
            return Exit.WORK_LEFT
        if self._signals.count and self._drain_by == inf:
            self._drain_by = now + self._plan.shutdown_timeout + OVERTIME_S
            log.info(
                "drains within %g s; a second signal stops at once", self._plan.shutdown_timeout
            )
            self._launcher.send(Drain(self._plan.shutdown_timeout))
            self._outside.drain(self._plan.shutdown_timeout)
        if now > self._drain_by:
            log.error(
                "not drained within %g s: stopped with work left", self._plan.shutdown_timeout
            )
            return Exit.WORK_LEFT
        if now >= self._ask_at:
            self._round += 1
            self._launcher.send(ReportStatus(self._round))
            self._ask_at = now + self._interval
            self._outside.look(now)
        return self._listen(min(self._drain_by, self._ask_at, now + 60.0) - now)

    def _listen(self, seconds: float) -> int | None:
        message = self._launcher.receive(seconds, [self._signals.fd])
        self._signals.clear()
        match message:
            case Drained(left=0):
                log.info("drained: nothing is left unsettled")
                return Exit.CLEAN
            case Drained(left=left):
                log.warning("stopped with %s deliveries unsettled: they come again", f"{left:,}")
                return Exit.WORK_LEFT
            case Failed(code=code, reason=reason):
                log.error("%s", reason)
                return code
            case Status():
                self._tell(json.loads(message.report))
            case None if not self._launcher.is_alive():
                log.error("the actor system died")
                return Exit.CRASH
        return None

    def _tell(self, report: dict[str, Any]) -> None:
        self._outside.hear(report)
        if self._on_status:
            self._on_status(report)
