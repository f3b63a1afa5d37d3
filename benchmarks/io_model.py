"""Which thread should drive the broker's socket? All candidates in one run, alternating.

    python -m benchmarks.io_model [--messages 50000] [--runs 5]

Each consumes a full queue with a prefetch of 512 and acknowledges every 256th message
with `multiple`. Printed are the median of messages a second, the spread, the CPU of our
process for each message, and the share of the bare socket of the same run.
"""

from __future__ import annotations

import argparse
import os
import select
import socket
import ssl
import statistics
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pika
from pika.adapters.utils import io_services_utils as _io_services_utils
from pika.adapters.utils.selector_ioloop_adapter import SelectorIOServicesAdapter

from actors.connectors.rabbitmq.connection import RabbitMQClient
from actors.connectors.rabbitmq.ioloop import IOLoop
from actors.logic.settlement.ledger import Flush
from actors.plan.plan import PipelinePlan
from actors.roles.port import Fetched, Opened
from benchmarks.bare import Bare
from tests.support.broker import Broker

PREFETCH, EVERY = 512, 256
BODY = b"x" * 120
QUEUE = "benchmark"

io_services_utils: Any = _io_services_utils
Candidate = Callable[["Bench", bool], float]


class Bench:
    """A private broker and what it takes to fill its queue."""

    def __init__(self, messages: int) -> None:
        self.messages = messages
        self.broker = Broker(tls=True)
        self.vhost = self.broker.add_vhost()

    def settings(self, tls: bool) -> str:
        if not tls:
            return self.broker.settings(self.vhost)
        return self.broker.settings(
            self.vhost,
            host="localhost",
            port=self.broker.tls_port,
            ssl=True,
            ca_file=self.broker.ca_file,
        )

    def parameters(self) -> pika.ConnectionParameters:
        return pika.ConnectionParameters("127.0.0.1", self.broker.port, self.vhost)

    def url(self, tls: bool = False) -> str:
        port = self.broker.tls_port if tls else self.broker.port
        return f"amqp://guest:guest@localhost:{port}/{self.vhost}"

    def fill(self) -> None:
        bare = Bare(self.url())
        bare.delete(QUEUE)
        bare.declare(QUEUE)
        bare.publish(QUEUE, [BODY] * self.messages)
        while bare.declare(QUEUE) < self.messages:
            time.sleep(0.05)
        bare.close()


# ── candidates ─────────────────────────────────────────────────────────────────


def bare_socket(bench: Bench, tls: bool) -> float:
    """Counts frames and knows nothing: the limit."""
    context = ssl.create_default_context(cafile=bench.broker.ca_file) if tls else None
    bare = Bare(bench.url(tls), context)
    started = time.perf_counter()
    bare.consume(QUEUE, PREFETCH, bench.messages, lambda count: None)
    elapsed = time.perf_counter() - started
    bare.close()
    return elapsed


def pika_alone(bench: Bench, tls: bool) -> float:
    """pika's SelectConnection with its own loop, its own decoding."""
    times: list[float] = []

    def consume(channel: Any) -> None:
        count = 0

        def deliver(channel: Any, method: Any, properties: Any, body: bytes) -> None:
            nonlocal count
            count += 1
            if count % EVERY == 0 or count == bench.messages:
                channel.basic_ack(method.delivery_tag, multiple=True)
            if count == bench.messages:
                times.append(time.perf_counter())
                channel.connection.close()

        channel.basic_qos(prefetch_count=PREFETCH)
        times.append(time.perf_counter())
        channel.basic_consume(QUEUE, deliver)

    def opened(connection: Any) -> None:
        connection.channel(on_open_callback=consume)

    connection: Any = pika.SelectConnection(
        bench.parameters(),
        on_open_callback=opened,
        on_close_callback=lambda closed, _: closed.ioloop.stop(),
    )
    connection.ioloop.start()
    return times[1] - times[0]


class Turning:
    """Our client, turned by whoever asks for its events."""

    def __init__(self, bench: Bench, tls: bool) -> None:
        self.client = RabbitMQClient(PipelinePlan("bench", "amqp", bench.settings(tls)))
        self._poll = select.poll()
        self._poll.register(self.client.fileno(), select.POLLIN)

    def turn(self) -> list[Any]:
        due = self.client.deadline()
        wait = 1.0 if due is None else max(0.0, min(1.0, due - time.monotonic()))
        self._poll.poll(wait * 1000)
        return self.client.turn(time.monotonic())

    def begin(self) -> float:
        self.client.open()
        while not any(isinstance(event, Opened) for event in self.turn()):
            pass
        self.client.consume(QUEUE, 1, PREFETCH)
        return time.perf_counter()


class Acks:
    """Acknowledges the contiguous prefix of what came, every 256th."""

    def __init__(self, messages: int) -> None:
        self._messages = messages
        self.count = self.acked = 0

    def due(self, event: Any) -> Flush | None:
        if isinstance(event, Fetched):
            self.count += len(event.ends) // 4
        upto = self.count if self.count == self._messages else self.count // EVERY * EVERY
        if upto == self.acked:
            return None
        flush = Flush(upto, ((self.acked + 1, upto),))
        self.acked = upto
        return flush


def own_thread(bench: Bench, tls: bool) -> float:
    """Our client, turned by the thread that takes the deliveries."""
    turning = Turning(bench, tls)
    started = turning.begin()
    acks = Acks(bench.messages)
    while acks.count < bench.messages:
        for event in turning.turn():
            if flush := acks.due(event):
                turning.client.settle(QUEUE, 1, flush)
    elapsed = time.perf_counter() - started
    turning.client.close()
    return elapsed


def io_thread(bench: Bench, tls: bool) -> float:
    """The same client in a thread; deliveries come by deque and eventfd, acks go back so."""
    turning = Turning(bench, tls)
    inbox: deque[Any] = deque()
    outbox: deque[Flush] = deque()
    wake = os.eventfd(0, os.EFD_NONBLOCK)
    started = turning.begin()
    running = True

    def settle() -> None:
        while outbox:
            turning.client.settle(QUEUE, 1, outbox.popleft())

    def run() -> None:
        while running:
            events = turning.turn()
            if events:
                inbox.extend(events)
                os.eventfd_write(wake, 1)

    thread = threading.Thread(target=run)
    thread.start()
    acks = Acks(bench.messages)
    poll = select.poll()
    poll.register(wake, select.POLLIN)
    while acks.count < bench.messages:
        poll.poll(1000)
        try:
            os.eventfd_read(wake)
        except BlockingIOError:
            continue
        while inbox:
            if flush := acks.due(inbox.popleft()):
                outbox.append(flush)
                turning.client._loop.add_callback(settle)
    elapsed = time.perf_counter() - started
    running = False
    turning.client._loop.add_callback(settle)
    thread.join()
    os.close(wake)
    turning.client.close()
    return elapsed


# ── what else decides ──────────────────────────────────────────────────────────


def longest_turn(bench: Bench, tls: bool) -> float:
    """Seconds that connecting keeps the thread, at the most at once."""
    turning = Turning(bench, tls)
    started = time.perf_counter()
    turning.client.open()
    longest = time.perf_counter() - started
    opened = False
    while not opened:
        started = time.perf_counter()
        events = turning.client.turn(time.monotonic())
        longest = max(longest, time.perf_counter() - started)
        opened = any(isinstance(event, Opened) for event in events)
    turning.client.close()
    return longest


def blocked_write() -> tuple[float, int]:
    """A peer that reads nothing: seconds that 100,000 acks keep the thread, bytes waiting."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    loop = IOLoop()
    native: Any = loop
    services: Any = SelectorIOServicesAdapter(native)
    transport: Any = io_services_utils._AsyncPlaintextTransport(ours, None, services)
    started = time.perf_counter()
    for _ in range(1000):
        transport.write(bytes(2100))
        loop.turn()
    elapsed = time.perf_counter() - started
    waiting = transport.get_write_buffer_size()
    loop.close()
    ours.close()
    theirs.close()
    return elapsed, waiting


@contextmanager
def benchmark(messages: int) -> Iterator[Bench]:
    bench = Bench(messages)
    try:
        yield bench
    finally:
        bench.broker.stop()


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=50_000)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    candidates: list[tuple[str, Candidate, bool]] = [
        ("bare socket", bare_socket, False),
        ("pika alone", pika_alone, False),
        ("own thread", own_thread, False),
        ("I/O thread", io_thread, False),
        ("bare socket, TLS", bare_socket, True),
        ("own thread, TLS", own_thread, True),
        ("I/O thread, TLS", io_thread, True),
    ]
    rates: dict[str, list[float]] = {name: [] for name, _, _ in candidates}
    cpu: dict[str, list[float]] = {name: [] for name, _, _ in candidates}
    with benchmark(options.messages) as bench:
        for run in range(options.runs):
            for name, candidate, tls in candidates:
                bench.fill()
                before = time.process_time()
                rates[name].append(options.messages / candidate(bench, tls))
                cpu[name].append((time.process_time() - before) / options.messages * 1e6)
                say(f"{run + 1} {name}: {rates[name][-1]:,.0f}/s")
        connecting = {tls: longest_turn(bench, tls) for tls in (False, True)}
    say("| candidate | messages/s (median) | least to most | CPU each | of the bare socket |")
    say("|---|---|---|---|---|")
    for name, _, tls in candidates:
        limit = rates["bare socket, TLS" if tls else "bare socket"]
        ratio = statistics.median(a / b for a, b in zip(rates[name], limit, strict=True))
        say(
            f"| {name} | {statistics.median(rates[name]):,.0f} "
            f"| {min(rates[name]):,.0f} to {max(rates[name]):,.0f} "
            f"| {statistics.median(cpu[name]):.1f} µs | {ratio:.2f} |"
        )
    say(f"\nLongest turn while connecting: {connecting[False] * 1e3:.1f} ms, "
          f"TLS {connecting[True] * 1e3:.1f} ms")  # fmt: skip
    elapsed, waiting = blocked_write()
    say(f"100,000 acks to a peer that reads nothing: {elapsed * 1e3:.1f} ms, {waiting:,} waiting")


if __name__ == "__main__":
    main()
