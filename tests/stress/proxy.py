"""A TCP proxy that is as bad as a network can be."""

from __future__ import annotations

import contextlib
import selectors
import socket
import struct
import threading
import time
from enum import Enum, auto
from urllib.parse import urlsplit

#: Close with a reset instead of a goodbye.
LINGER = struct.pack("ii", 1, 0)


class Mode(Enum):
    """What becomes of bytes on the way.

    Once some of a connection are lost, all that follow are, whatever the mode is by then: TCP
    either carries a stream without a hole or none.
    """

    PASS = auto()
    SWALLOW_UP = auto()  #: what goes to the server is lost: a link that is half open
    SWALLOW_DOWN = auto()  #: what comes from the server is: confirms, and the rest
    SWALLOW = auto()  #: nothing arrives on either side
    DELAY = auto()  #: each read waits a tenth of a second
    DRIBBLE = auto()  #: a byte at a time


class Proxy:
    """Listens on a free port of loopback and passes on to a server, in a thread of its own."""

    def __init__(self, port: int) -> None:
        self.mode = Mode.PASS
        self._server = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._lock = threading.Lock()
        self._ended = False
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def instead_of(self, url: str) -> str:
        """The URL of the server, by way of here."""
        parts = urlsplit(url)
        user = parts.netloc.rpartition("@")[0]
        return parts._replace(netloc=f"{user}@127.0.0.1:{self.port}").geturl()

    def inject(self, data: bytes) -> None:
        """Send to the server what its clients never said; between two frames, in a pause."""
        with self._lock:
            for _, server in self._pairs:
                with contextlib.suppress(OSError):  # of a connection that has ended
                    server.sendall(data)

    def reset(self) -> None:
        """Break every connection now, by RST."""
        with self._lock:
            pairs, self._pairs = self._pairs, []
        for pair in pairs:
            for end in pair:
                with contextlib.suppress(OSError):
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER)
                    end.shutdown(socket.SHUT_RD)  # wakes the thread that reads and closes it

    def close(self) -> None:
        self._ended = True
        self.mode = Mode.PASS
        self._listener.close()
        self.reset()
        for thread in self._threads:
            thread.join(2.0)

    def _accept(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            while not self._ended:
                if not selector.select(0.05):
                    continue
                try:
                    client, _ = self._listener.accept()
                    server = socket.create_connection(("127.0.0.1", self._server))
                except OSError:
                    continue
                with self._lock:
                    self._pairs.append((client, server))
                for source, sink, up in ((client, server, True), (server, client, False)):
                    thread = threading.Thread(
                        target=self._pump, args=(source, sink, up), daemon=True
                    )
                    self._threads.append(thread)
                    thread.start()

    def _pump(self, source: socket.socket, sink: socket.socket, up: bool) -> None:
        lost = False
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                lost = lost or self._loses(up)
                if not lost:
                    self._pass(data, sink)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_RD)
        source.close()

    def _loses(self, up: bool) -> bool:
        return self.mode in (Mode.SWALLOW, Mode.SWALLOW_UP if up else Mode.SWALLOW_DOWN)

    def _pass(self, data: bytes, sink: socket.socket) -> None:
        mode = self.mode
        if mode is Mode.DELAY:
            time.sleep(0.1)
        if mode is Mode.DRIBBLE:
            for index in range(len(data)):
                sink.sendall(data[index : index + 1])
        else:
            sink.sendall(data)
