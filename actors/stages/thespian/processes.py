"""The ties between processes, so that none outlives its system."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import select
import signal
import sys
import threading
import time
from contextlib import suppress
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

_PR_SET_PDEATHSIG = 1
PARENT_CHECK_S = 1.0  #: seconds between looks at the parent where nothing tells of its end
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None

#: Of glibc's malloc.h: (parameter, bytes). It comes to these by itself, but only in a process
#: that has freed a block of 32 MiB.
_M_TRIM_THRESHOLD = -1, 64 * 1024 * 1024
_M_MMAP_THRESHOLD = -3, 32 * 1024 * 1024

held_locks: set[int] = set()  #: descriptors of files that this process has locked


def let_go_of_locks() -> None:
    """In a fork: leave the locks to the other processes. User code may outlive them."""
    while held_locks:
        os.close(held_locks.pop())


def die_with_parent() -> None:
    """Ask the kernel to kill this process once the one that forked it is gone (Linux)."""
    if _libc is None:
        return
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    parent = multiprocessing.parent_process()
    if parent is not None and os.getppid() != parent.pid:
        os._exit(1)  # it was gone before we asked: no signal will come


def end_with_parent() -> None:
    """The same by a thread that waits for the parent's end: the kernel forgets what it was asked
    for when the process changes its user, its group or its capabilities, as user code may."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        arguments = (parent.pid,)
        threading.Thread(target=_end_after, args=arguments, name="parent", daemon=True).start()


def _end_after(parent: int) -> None:
    gone = select.poll()
    with suppress(AttributeError, OSError):  # not on Linux, an old kernel, or no descriptor free
        gone.register(os.pidfd_open(parent), select.POLLIN)
        while os.getppid() == parent and all(event & select.POLLNVAL for _, event in gone.poll()):
            time.sleep(PARENT_CHECK_S)  # user code has closed it
    while os.getppid() == parent:
        time.sleep(PARENT_CHECK_S)
    os.kill(os.getpid(), signal.SIGKILL)


def reuse_memory() -> None:
    """Have this process and its forks keep up to 64 MiB that they have freed (glibc).

    A block that is given back and asked for again is faulted in page by page, which for
    large messages takes longer than all that is done with them.
    """
    if _libc is not None and hasattr(_libc, "mallopt"):
        for parameter, size in (_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD):
            _libc.mallopt(parameter, size)


def obey_only_the_supervisor() -> None:
    """Give crashes their default action back, and ignore polite requests to end.

    Thespian catches every signal: a SIGSEGV then returns to the instruction that
    raised it, for ever. A handler, not SIG_IGN, because that would be inherited by
    what user code starts with exec.
    """
    for crash in ("SIGSEGV", "SIGBUS", "SIGFPE", "SIGILL", "SIGABRT"):
        signal.signal(getattr(signal, crash), signal.SIG_DFL)
    for request in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        signal.signal(request, _nothing)


def restore_signals_in_forks() -> None:
    """Have what user code forks obey signals like any process: `multiprocessing` ends its
    workers by SIGTERM."""
    before = threading.local()

    def wait() -> None:
        # One that comes before the child obeys would be lost; while it is blocked, it waits.
        before.mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})

    def go_on() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, before.mask)

    def obey() -> None:
        _obey_everybody()
        go_on()

    os.register_at_fork(before=wait, after_in_parent=go_on, after_in_child=obey)


def _obey_everybody() -> None:
    for number in signal.valid_signals():
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def show_as(title: str) -> None:
    """Put `title` in the place of this process's command line (Linux).

    A fork has the launcher's, and the URL of a connection in it may hold a password.
    """
    if _libc is None:
        return
    try:
        with open("/proc/self/stat", "rb") as file:  # a path and text would write to more pages
            stat = file.read()
    except OSError:
        return
    start, end = map(int, stat.rpartition(b")")[2].split()[45:47])
    size = end - start  # 0 where the kernel does not tell
    if size:
        ctypes.memmove(start, title.encode()[: size - 1].ljust(size, b"\0"), size)


def _nothing(_signum: int, _frame: object) -> None:
    """Do nothing."""


class Child:
    """A child as its parent's stage sees it; without a process of its own on simpleSystemBase,
    or where the system had none left for it."""

    def __init__(self, address: Any, process: BaseProcess | None, lacks: bool = False) -> None:
        self.address = address
        self.process = process
        self._lacks = lacks and process is None
        self.kill_at: float | None = None  #: from then on: it has said goodbye, or was killed

    def is_dead(self) -> bool:
        if self.process is None:
            return self.kill_at is not None
        return not self.process.is_alive()

    def cause(self) -> str:
        if self._lacks:
            return "no process could be started for it"
        code = self.process.exitcode if self.process else 0
        if code is not None and code < 0:
            return f"killed by {signal.Signals(-code).name}"
        return f"exit code {code}"


def members(session: int) -> list[int]:
    """The living processes of a session, zombies left out.

    Where there is no /proc, the session's leader stands for all of its process group.
    """
    if sys.platform == "linux":
        return [pid for pid in _pids() if _session_if_alive(pid) == session]
    try:
        os.killpg(session, 0)
    except ProcessLookupError:
        return []
    return [session]


def end(session: int, seconds: float) -> list[int]:
    """Kill what is left of a session; return who is still there after so many seconds."""
    deadline = time.monotonic() + seconds
    while left := members(session):
        for pid in left:
            _kill(pid)
        if time.monotonic() > deadline:
            return left
        time.sleep(0.005)
    return []


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):  # gone since we looked
        os.kill(pid, signal.SIGKILL)


def _pids() -> list[int]:
    return [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]


def _session_if_alive(pid: int) -> int:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    # The name in parentheses may hold anything, parentheses included.
    state, _parent, _group, session = stat.rpartition(")")[2].split()[:4]
    return 0 if state in "ZX" else int(session)
