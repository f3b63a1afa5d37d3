"""An I/O loop that never blocks: its owner polls one descriptor and calls `turn`.

pika drives all its work (name resolution, connecting, TLS, writes, heartbeats) through
the loop it is given. This one is turned by the thread of an actor.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

_Handler = Callable[[int, int], None]


@dataclass(order=True, slots=True)
class Timer:
    """A call that is due at a time; cancelled where it has no callback."""

    due: float
    number: int
    callback: Callable[[], None] | None = field(compare=False)


class IOLoop:
    """pika's documented `AbstractSelectorIOLoop`, on a selector that can itself be polled."""

    READ = selectors.EVENT_READ
    WRITE = selectors.EVENT_WRITE
    ERROR = 0  # a selector tells errors as readiness

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._timers: list[Timer] = []
        self._numbers = itertools.count()
        self._callbacks: deque[Callable[[], None]] = deque()
        self._closed = False
        self._lock = threading.Lock()
        self._waker, self._wakee = socket.socketpair()
        for end in (self._waker, self._wakee):
            end.setblocking(False)
        self._selector.register(self._wakee, self.READ)

    # ── for the owner ────────────────────────────────────────────────────────

    def fileno(self) -> int:
        """Readable when `turn` has work; -1 where the platform's selector has none, and after
        `close`."""
        fileno = getattr(self._selector, "fileno", None)
        return int(fileno()) if fileno and not self._closed else -1

    def deadline(self) -> float | None:
        """Monotonic seconds at which the next timer is due; None after `close`."""
        while self._timers and self._timers[0].callback is None:
            heapq.heappop(self._timers)
        return self._timers[0].due if self._timers and not self._closed else None

    def turn(self, timeout: float = 0.0) -> None:
        """Run what is ready, after `close` nothing; waits no longer than `timeout` seconds."""
        if self._closed:
            return
        for key, events in self._selector.select(timeout):
            if key.fileobj is self._wakee:
                with contextlib.suppress(BlockingIOError):
                    self._wakee.recv(4096)
            elif key.fd in self._selector.get_map():  # not removed by a handler before it
                cast(_Handler, key.data)(key.fd, events)
        for _ in range(len(self._callbacks)):
            self._callbacks.popleft()()
        now = time.monotonic()
        while (due := self.deadline()) is not None and due <= now:
            callback = heapq.heappop(self._timers).callback
            if callback is not None:
                callback()

    # ── for pika ─────────────────────────────────────────────────────────────

    def call_later(self, delay: float, callback: Callable[[], None]) -> Timer:
        timer = Timer(time.monotonic() + delay, next(self._numbers), callback)
        heapq.heappush(self._timers, timer)
        return timer

    def remove_timeout(self, timeout_handle: Timer) -> None:
        timeout_handle.callback = None

    def add_callback(self, callback: Callable[[], None]) -> None:
        """Call it in the next turn. The only method that any thread may use."""
        with self._lock:  # pika's resolver thread may come back after `close`
            if not self._closed:
                self._callbacks.append(callback)
                with contextlib.suppress(BlockingIOError):  # full: it is readable anyway
                    self._waker.send(b"\0")

    def add_handler(self, fd: int, handler: _Handler, events: int) -> None:
        self._selector.register(fd, events, handler)

    def update_handler(self, fd: int, events: int) -> None:
        self._selector.modify(fd, events, self._selector.get_key(fd).data)

    def remove_handler(self, fd: int) -> None:
        self._selector.unregister(fd)

    def start(self) -> None:
        """Nobody may block in this loop."""
        raise RuntimeError("this loop is turned by its owner")

    def stop(self) -> None:
        """There is nothing to stop."""

    def close(self) -> None:
        with self._lock:
            self._closed = True
            self._callbacks.clear()
        self._timers.clear()
        self._selector.close()
        self._waker.close()
        self._wakee.close()
