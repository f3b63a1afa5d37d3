"""The process that user code runs in: its clock, and its exit functions.

A fork ends without `atexit`. Exit functions that this process registered run at its normal end;
those of its parent stay the parent's: one may remove a temporary directory.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import logging
import os
import threading
import time

_owner = 0  #: the process whose exit functions are run here


def forget_exit_functions() -> None:
    """Forgets, in a fresh fork, the exit functions of the parent."""
    global _owner
    _owner = os.getpid()
    atexit._clear()
    atexit.register(logging.shutdown)


def has_exit_functions() -> bool:
    """Whether exit functions of this process are its own to run."""
    return _owner == os.getpid()


async def run_exit_functions() -> None:
    """Runs what `atexit` holds, the last first, in a thread: it may take long."""
    loop = asyncio.get_running_loop()
    done = asyncio.Event()

    def run() -> None:
        try:
            atexit._run_exitfuncs()
        finally:
            with contextlib.suppress(RuntimeError):  # given up, and the loop is closed
                loop.call_soon_threadsafe(done.set)

    threading.Thread(target=run, name="atexit", daemon=True).start()
    await done.wait()


def boot_time() -> float:
    """Seconds on a clock that all processes of this host share; they pass while it is suspended,
    too (Linux)."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
