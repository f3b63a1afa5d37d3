"""A small real HTTP server for event streams that behaves, badly where it is told to."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

STREAM = "text/event-stream"


@dataclass
class Request:
    path: str
    headers: dict[str, str]


class Wire:
    """The server's end of one connection."""

    def __init__(self, peer: socket.socket, over: threading.Event) -> None:
        self._peer = peer
        self._over = over

    def write(self, data: bytes) -> None:
        self._peer.sendall(data)

    def head(self, status: str = "200 OK", **headers: str) -> None:
        lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self.write("\r\n".join([f"HTTP/1.1 {status}", *lines, "", ""]).encode())

    def chunk(self, data: bytes) -> None:
        self.write(b"%x\r\n%s\r\n" % (len(data), data))

    def hold(self) -> None:
        """Stay connected and silent until the client or the test goes."""
        self._peer.settimeout(0.05)
        while not self._over.is_set():
            try:
                if not self._peer.recv(4096):
                    return
            except TimeoutError:
                continue
            except OSError:
                return

    def reset(self) -> None:
        """End with RST instead of FIN."""
        self._peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


Answer = Callable[[Wire], None]


def stream(
    *blocks: str | bytes, chunked: bool = False, hold: bool = True, reset: bool = False
) -> Answer:
    """These blocks one by one, then silence; or the end, with FIN or RST, if not `hold`."""

    def answer(wire: Wire) -> None:
        wire.head(content_type=STREAM, **({"transfer_encoding": "chunked"} if chunked else {}))
        for block in blocks:
            data = block.encode() if isinstance(block, str) else block
            (wire.chunk if chunked else wire.write)(data)
        if hold:
            wire.hold()
        elif reset:
            wire.reset()
        elif chunked:
            wire.write(b"0\r\n\r\n")

    return answer


def status(line: str, body: bytes = b"", **headers: str) -> Answer:
    def answer(wire: Wire) -> None:
        wire.head(line, content_length=str(len(body)), **headers)
        wire.write(body)

    return answer


def redirect(code: int, location: str) -> Answer:
    return status(f"{code} Elsewhere", location=location)


class SSEServer:
    """Answers the n-th request with the n-th answer, and all after it with the last."""

    def __init__(self, *answers: Answer, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self.answers = list(answers)
        self.requests: list[Request] = []
        self.times: list[float] = []  #: monotonic, of each request
        self._counting = threading.Lock()
        self._over = threading.Event()
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        scheme = "https" if tls else "http"
        self.url = f"{scheme}://127.0.0.1:{self._listener.getsockname()[1]}/"
        self._start(self._accept)

    def __enter__(self) -> SSEServer:
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(5)

    def _start(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._over.is_set():
            try:
                peer, _ = self._listener.accept()
            except OSError:
                return
            self._start(self._serve, peer)

    def _serve(self, peer: socket.socket) -> None:
        with contextlib.suppress(OSError), peer:  # the client may go at any time
            if self._tls:
                with self._tls.wrap_socket(peer, server_side=True) as safe:
                    self._receive(safe)(Wire(safe, self._over))
            else:
                self._receive(peer)(Wire(peer, self._over))

    def _receive(self, peer: socket.socket) -> Answer:
        data = b""
        while b"\r\n\r\n" not in data:
            if not (more := peer.recv(65536)):
                raise ConnectionError
            data += more
        first, *lines = data.decode().split("\r\n\r\n")[0].split("\r\n")
        headers = dict(line.lower().split(": ", 1)[:1] + line.split(": ", 1)[1:] for line in lines)
        with self._counting:
            self.times.append(time.monotonic())
            self.requests.append(Request(first.split()[1], headers))
            number = len(self.requests)
        return self.answers[min(number, len(self.answers)) - 1]
