"""Apps for the tests of whole systems: what a handler does, its messages say."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import signal
import sys
import time
from typing import Any

from actors import Actions, App, Events, HandlerActor, Message, Options, Queue, Retry

RECORD = os.environ.get("RECORD", os.devnull)
GATE = f"{RECORD}.gate"  #: while it exists, handlers that are told to wait do
PACE = float(os.environ.get("PACE", "0"))  #: seconds for each bulk
TIRED = 300  #: the first number for which it takes long

Messages = list[Message[Any]]


def note(messages: Messages, **more: Any) -> None:
    """Say on the record what came: one write, so that neither handlers nor kills mix lines."""
    lines = [
        {
            "n": message.body["n"], "id": message.id, "queue": message.queue,
            "route": message.route, "attempts": message.attempts,
            "redelivered": message.redelivered, "bulk": len(messages), "pid": os.getpid(),
            "at": time.monotonic(), **more,
        }
        for message in messages
    ]  # fmt: skip
    record = os.open(RECORD, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(record, "".join(f"{json.dumps(line)}\n" for line in lines).encode())
    os.close(record)


def act(message: Message[Any]) -> None:
    """Do what the message says."""
    match message.body.get("do"):
        case "reject":
            message.reject(requeue=False)
        case "dead letter":
            message.dead_letter("no good")
        case "requeue once" if not message.attempts:
            message.reject()
        case "raise":
            raise ValueError(f"number {message.body['n']}")
        case "raise once" if not message.attempts:
            raise ValueError("only once")
        case "memory":
            raise MemoryError
        case "sys.exit":
            sys.exit(3)
        case "os._exit":
            os._exit(3)
        case "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "loop":
            while True:
                pass
        case "fork":
            child = multiprocessing.get_context("fork").Process(target=signal.pause)
            child.start()
            child.terminate()
            child.join(5.0)
            note([message], exitcode=child.exitcode)
        case "wait":
            while os.path.exists(GATE):
                time.sleep(0.01)


def work(messages: Messages) -> None:
    note(messages)
    for message in messages:
        act(message)
    time.sleep(PACE)


async def work_async(messages: Messages) -> None:
    await asyncio.sleep(PACE)
    note(messages)


class Work(HandlerActor):
    """Shows its life on the record."""

    async def on_start(self) -> None:
        self.born = os.getpid()

    def handle(self, messages: Messages) -> None:
        note(messages, born=self.born)


class Leak(HandlerActor):
    """Keeps a MiB for each message, and says what it held at its end."""

    async def on_start(self) -> None:
        self.kept: list[bytes] = []

    def handle(self, messages: Messages) -> None:
        self.kept += [os.urandom(2**20) for _ in messages]
        note(messages)
        time.sleep(PACE)

    async def on_stop(self) -> None:
        self.log.info("held %d MiB at its end", len(self.kept))


BULKS = {Options.BULK_SIZE: 64, Options.BULK_FLUSH_INTERVAL: 0.1}

plain = App()
plain.route(["work"], options=BULKS)(work)

#: Every kind of handler, a route of two queues, and one with two processes.
every = App()
every.route(["work", "more"], options={**BULKS, Options.CONCURRENCY: 2})(work)
every.route(["async"], options=BULKS)(work_async)
every.route(["class"], options=BULKS)(Work)

#: Everything that goes wrong, quickly.
fragile = App()
fragile.route(
    ["work"],
    options={
        Options.BULK_SIZE: 8,
        Options.BULK_FLUSH_INTERVAL: 0.1,
        Options.CONCURRENCY: 2,
        Options.MAX_CRASHES: 2,
        Options.TIMEOUT: 1.0,
        Events.ON_EXCEPTION: {
            # Without jitter, so that what failed together comes back together.
            Exception: Retry(attempts=3, first=0.1, cap=0.1, jitter=False),
            MemoryError: Actions.REJECT,
        },
    },
)(work)

#: One message at a time.
lone = App()
lone.route(["work"])(work)

#: It turns slow, before a broker with little patience (from 3.12 on).
tiring = App()


@tiring.route([Queue("more", quorum=True, arguments={"x-consumer-timeout": 12_000})])
def tire(messages: Messages) -> None:
    work(messages)
    time.sleep(1.5 * (messages[0].body["n"] >= TIRED))


#: Two processes that wait for each other's messages with nobody.
pair = App()
pair.route(["work"], options={**BULKS, Options.BULK_SIZE: 1, Options.CONCURRENCY: 2})(work)

leaky = App()
leaky.route(
    ["work"],
    options={
        **BULKS,
        Options.BULK_SIZE: 4,
        Options.CONCURRENCY: 2,
        Options.MAX_MEMORY: 120 * 2**20,
    },
)(Leak)

nowhere = App()
nowhere.route(["work"], connection="elsewhere")(work)
