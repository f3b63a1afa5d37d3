"""Ends of connections that a test drives byte by byte, with the key or without."""

from __future__ import annotations

import pickle
import socket
from pathlib import Path
from typing import Any, Self

from actors.roles.protocol import ActorMessage
from actors.stages.link.session import ANSWER_SIZE, GREETING_SIZE, Address, Identity, Sender
from actors.stages.thespian.actor_process import Envelope


def envelope(to: str, message: ActorMessage) -> bytes:
    """The body of a frame from nobody in particular."""
    return pickle.dumps(Envelope(to, "peer#1", message))


class Trap:
    """Unpickling this leaves a trace."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


class Peer:
    """A connection to an endpoint, opened as one of its own would do it."""

    def __init__(self, identity: Identity, target: Address) -> None:
        self.said: list[bytes] = []  #: all that was written
        self._number = 0
        self._socket = socket.create_connection(target, 5.0, (identity.address[0], 0))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.greeting = self.receive(GREETING_SIZE)
        self.session = Sender(identity, target, self.greeting)
        self.write(self.session.hello)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def write(self, data: bytes) -> None:
        self.said.append(data)
        self._socket.sendall(data)

    def seal(self, body: bytes) -> bytes:
        self._number += 1
        return b"".join(self.session.seal(self._number, body))

    def send(self, body: bytes) -> bytes:
        """Have a body arrive; returns the frame that it was in."""
        frame = self.seal(body)
        self.write(frame)
        assert self.session.acknowledged(self.receive(ANSWER_SIZE)) == 1
        return frame

    def receive(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            more = self._socket.recv(size - len(data))
            assert more, "the other end hung up"
            data += more
        return data

    @property
    def is_hung_up_on(self) -> bool:
        return is_hung_up_on(self._socket)


def is_hung_up_on(sock: socket.socket) -> bool:
    """Whether the other end ends the connection, whatever it says before; waits for it."""
    sock.settimeout(5)
    try:
        while sock.recv(4096):
            pass
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False
    return True
