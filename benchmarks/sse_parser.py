"""Events a second of the stream parser beside sseclient-py and httpx-sse, in one run.

    python benchmarks/sse_parser.py [--events 200000]

httpx-sse is left out where it is not installed. Each is the best of three, on one stream in
chunks as a socket brings them.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

import httpx
import sseclient

from actors.clients.sse_stream import EventStream

CHUNK = 65536
SMALL = b'id: %d\nevent: word\ndata: {"word": "callboard", "n": %d}\n\n'


def callboard(chunks: list[bytes]) -> int:
    return _count(EventStream(chunks).events())


def sseclient_py(chunks: list[bytes]) -> int:
    return _count(sseclient.SSEClient(iter(chunks)).events())


def httpx_sse(chunks: list[bytes]) -> int:
    httpx_sse = importlib.import_module("httpx_sse")  # not among what Callboard needs
    headers = {"content-type": "text/event-stream"}
    response = httpx.Response(200, headers=headers, content=iter(chunks))
    return _count(httpx_sse.EventSource(response).iter_sse())


def _count(events: Iterable[Any]) -> int:
    return sum(1 for _ in events)


def best(parse: Callable[[list[bytes]], int], chunks: list[bytes], events: int) -> float:
    """Seconds of the fastest of three."""
    times = []
    for _ in range(3):
        begin = time.perf_counter()
        found = parse(chunks)
        times.append(time.perf_counter() - begin)
        assert found == events, f"{parse.__name__} found {found} of {events} events"
    return min(times)


def report(title: str, stream: bytes, events: int) -> None:
    size = len(stream) / 2**20
    chunks = [stream[i : i + CHUNK] for i in range(0, len(stream), CHUNK)]
    say(f"{title}: {events} events, {size:.1f} MiB")
    for parse in (callboard, sseclient_py, httpx_sse):
        try:
            seconds = best(parse, chunks, events)
        except ModuleNotFoundError as error:
            say(f"  {parse.__name__:13} {error}")
        else:
            rates = f"{events / seconds:10,.0f} events/s {size / seconds:8,.1f} MiB/s"
            say(f"  {parse.__name__:13} {seconds:7.3f} s {rates}")


def say(line: str) -> None:
    sys.stdout.write(line + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=200_000)
    events = parser.parse_args().events
    report("small events", b"".join(SMALL % (n, n) for n in range(events)), events)
    report("one event of 2 MiB", b"data: " + b"x" * 2**21 + b"\n\n", 1)
    report("one event of 40,000 lines", b"data: 0123456789\n" * 40_000 + b"\n", 1)


if __name__ == "__main__":
    main()
