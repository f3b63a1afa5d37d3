"""Sealed connections: who may open one, and what cannot be done to what it carries.

The side that accepted greets with a nonce, the side that connected answers with a hello:
its own nonce, who it is, and where it listens. Both, the receiver's address and a key that
all endpoints share make the keys of this one connection (HKDF-SHA256), so that what was
recorded opens nowhere else and at no other time. Then AES-256-GCM with a counter for a
nonce: a frame is a header, which says the length of the body and opens before memory is
taken for it, and the body; a frame left out, repeated or swapped does not open. Answers
are sealed with a key of their own, or they could be made of frames.

No clock takes part: the receiver's nonce is what makes a connection fresh.
"""

from __future__ import annotations

import os
import socket
import struct
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from actors.logic.messages.entry import MAX_FRAME

MAX_BODY = MAX_FRAME
TAG_SIZE = 16

_MAGIC = b"CBT1"
_NONCE_SIZE = 32
_HELLO = struct.Struct(f"!4s{_NONCE_SIZE}s8s4sH")
_HEADER = struct.Struct("!IQ")
_ANSWER = struct.Struct("!Q")
GREETING_SIZE = len(_MAGIC) + _NONCE_SIZE
HELLO_SIZE = _HELLO.size
HEADER_SIZE = _HEADER.size + TAG_SIZE
ANSWER_SIZE = _ANSWER.size + TAG_SIZE

Address = tuple[str, int]  #: (IPv4 address, port) at which an endpoint listens


class Refused(Exception):
    """A frame that is not for us, or not from one of us."""


class Identity:
    """One endpoint, as its peers know it: an id for its life, where it listens, what it holds."""

    def __init__(self, keys: tuple[bytes, ...], address: Address) -> None:
        if not keys or min(map(len, keys)) < 32:
            raise ValueError("a key of a system is at least 32 bytes")
        self.keys = keys  #: the first seals, all open
        self.address = address
        self.id = os.urandom(8)


class Header(NamedTuple):
    length: int  #: of the body
    number: int  #: higher than that of any frame that the sender sent before


class Sender:
    """The end that connected: seals frames, and checks what acknowledges them."""

    def __init__(self, identity: Identity, target: Address, greeting: bytes) -> None:
        if not greeting.startswith(_MAGIC):
            raise Refused("it does not greet as we do")
        host, port = identity.address
        self.hello = _HELLO.pack(
            _MAGIC, os.urandom(_NONCE_SIZE), identity.id, socket.inet_aton(host), port
        )
        self._frames, self._answers = _derive(identity.keys[0], greeting, self.hello, target)
        self._sealed = 0
        self._acknowledged = 0

    def seal(self, number: int, body: bytes) -> tuple[bytes, bytes]:
        """The next frame of this connection: its header and its body, apart to spare a copy."""
        at, self._sealed = 2 * self._sealed, self._sealed + 1
        header = self._frames.encrypt(_nonce(at), _HEADER.pack(len(body), number), None)
        return header, self._frames.encrypt(_nonce(at + 1), body, None)

    def acknowledged(self, answer: bytes) -> int:
        """How many more frames an answer acknowledges; raises `Refused`."""
        (count,) = _ANSWER.unpack_from(answer)
        if not self._acknowledged < count <= self._sealed:
            raise Refused("an answer to nothing")
        _open(self._answers, count, answer[_ANSWER.size :], "an answer")
        more, self._acknowledged = count - self._acknowledged, count
        return int(more)


class Receiver:
    """The end that accepted: opens frames, and acknowledges them. All raise `Refused`."""

    sender: bytes  #: the id of who connected; believed once a header has opened
    address: Address  #: where it listens

    def __init__(self, identity: Identity) -> None:
        self.greeting = _MAGIC + os.urandom(_NONCE_SIZE)
        self._identity = identity
        self._candidates: list[tuple[AESGCM, AESGCM]] = []  # one for each key, until one opens
        self._opened = 0

    @property
    def met(self) -> bool:
        return bool(self._candidates)

    def meet(self, hello: bytes | bytearray, origin: str) -> None:
        """Take the hello of who connects from `origin`."""
        magic, _, self.sender, host, port = _HELLO.unpack(hello)
        if magic != _MAGIC:
            raise Refused("not one of us")
        self.address = socket.inet_ntoa(host), port
        if self.address[0] != origin:
            raise Refused(f"claims to be {self.address[0]}")
        mine = self._identity.address
        self._candidates = [
            _derive(key, self.greeting, bytes(hello), mine) for key in self._identity.keys
        ]

    def header(self, data: bytes | bytearray) -> Header:
        """Open the header of the next frame."""
        for frames, answers in self._candidates:
            try:
                header = Header(
                    *_HEADER.unpack(frames.decrypt(_nonce(2 * self._opened), data, None))
                )
            except InvalidTag:
                continue
            self._candidates = [(frames, answers)]
            if header.length > MAX_BODY:
                raise Refused(f"announces {header.length} bytes")
            return header
        raise Refused("a header that does not open")

    def body(self, data: bytes | bytearray) -> bytes:
        """Open the body that belongs to the last header."""
        ((frames, _),) = self._candidates
        body = _open(frames, 2 * self._opened + 1, data, "a body")
        self._opened += 1
        return body

    def answer(self) -> bytes:
        """What acknowledges all frames so far."""
        ((_, answers),) = self._candidates
        return _ANSWER.pack(self._opened) + answers.encrypt(_nonce(self._opened), b"", None)


def rehearse() -> None:
    """Carry one frame to nobody: what OpenSSL sets up for its first use, forks then share."""
    identity = Identity((bytes(32),), ("127.0.0.1", 0))
    receiver = Receiver(identity)
    sender = Sender(identity, identity.address, receiver.greeting)
    receiver.meet(sender.hello, "127.0.0.1")
    header, body = sender.seal(1, b"")
    receiver.header(header)
    receiver.body(body)
    sender.acknowledged(receiver.answer())


def _derive(key: bytes, greeting: bytes, hello: bytes, receiver: Address) -> tuple[AESGCM, AESGCM]:
    """The ciphers of one connection, for frames and for answers."""
    host, port = receiver
    info = b"callboard" + socket.inet_aton(host) + port.to_bytes(2, "big") + hello
    derived = HKDF(SHA256(), 64, salt=greeting, info=info).derive(key)
    return AESGCM(derived[:32]), AESGCM(derived[32:])


def _open(cipher: AESGCM, number: int, data: bytes | bytearray, what: str) -> bytes:
    try:
        return cipher.decrypt(_nonce(number), data, None)
    except InvalidTag:
        raise Refused(f"{what} that does not open") from None


def _nonce(number: int) -> bytes:
    return number.to_bytes(12, "big")
