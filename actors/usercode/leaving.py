"""`atexit` in a process that user code runs in: a fork ends without it.

What is registered in the process runs at its normal end. What its parent had registered before
the fork is its parent's: a temporary directory may be among it.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import logging
import os
import threading

_owner = 0  #: the process whose exit functions are run here


def begin() -> None:
    """In a fresh fork: forget what the parent has registered."""
    global _owner
    _owner = os.getpid()
    atexit._clear()
    atexit.register(logging.shutdown)


def awaits_leave() -> bool:
    """Whether this process runs its own exit functions."""
    return _owner == os.getpid()


async def leave() -> None:
    """Run them, the last first, in a thread: they may last."""
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
