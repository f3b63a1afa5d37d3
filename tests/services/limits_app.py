"""Apps on quorum queues: of their own, and of others with whatever limit."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path
from typing import Any

from actors import Actions, App, Events, Message, Options, Queue
from tests.services.apps import GATE, RECORD, act, note

Messages = list[Message[Any]]


def kill_worker() -> None:
    """SIGKILL to every process of the worker at once, as the kernel does with memory.oom.group."""
    mark = f"RECORD={RECORD}\0".encode()
    ours = [
        int(entry)
        for entry in os.listdir("/proc")
        if entry.isdigit() and mark in environment(entry)
    ]
    for pid in sorted(ours, key=lambda pid: pid == os.getpid()):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def environment(pid: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:  # gone since we looked
        return b""


def work(messages: Messages) -> None:
    """Fails at once and without end where the message says so; waits as long as the gate exists."""
    note(messages)
    for message in messages:
        match message.body.get("do"):
            case "fail":
                message.reject(delay=0.01)
            case "hold":
                while os.path.exists(GATE):
                    time.sleep(0.01)
            case "kill all":
                kill_worker()
            case _:
                act(message)


OPTIONS = {
    Options.BULK_SIZE: 1,
    Options.TIMEOUT: 60.0,
    Events.ON_EXCEPTION: Actions.REQUEUE,
}

own = App()
own.route([Queue("work", quorum=True)], options=OPTIONS)(work)

others = App()
others.route(["work"], options=OPTIONS)(work)

ordered = App()
ordered.route(["work"], options={**OPTIONS, Options.ORDER_BY: "routing_key"})(work)

#: Several in hand at once: in bulks, in processes, and in routes.
busy = App()
busy.route(
    ["work"],
    options={
        Options.BULK_SIZE: 4, Options.BULK_FLUSH_INTERVAL: 0.1, Options.CONCURRENCY: 2,
        Events.ON_EXCEPTION: Actions.REQUEUE,
    },
)(work)  # fmt: skip
busy.route(["more"], options=OPTIONS)(work)

by_policy = App()
by_policy.route(["work"], options={**OPTIONS, Options.DELIVERY_LIMIT: 3})(work)
