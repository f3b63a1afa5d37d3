"""What is not sealed with the key of the system is refused before it is unpickled."""

from __future__ import annotations

import os
import pickle
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from thespian.system.transport.streamBuffer import toSendBuffer

from actors.stages import seal
from actors.stages.exchange import MAX_STRANGERS
from actors.stages.hands import Envelope
from actors.stages.launcher import LAUNCHER, ROOT, Launcher, ask
from actors.stages.seal import HEADER_SIZE, Refused, Seal
from tests.component.thespian_cast import Play, on_stage, report, until

KEY = os.urandom(32)
PORT = 4711


def opened(receiver: Seal, frame: bytes, port: int = PORT) -> bool:
    header = receiver.header(frame[:HEADER_SIZE], port)
    return receiver.accept(header, frame[HEADER_SIZE:])


@pytest.fixture
def sealed() -> tuple[Seal, Seal]:
    return Seal(KEY), Seal(KEY)


def test_a_frame_is_accepted_once(sealed: tuple[Seal, Seal]) -> None:
    sender, receiver = sealed
    frame = sender.seal(PORT, b"body")
    assert [opened(receiver, frame) for _ in range(3)] == [True, False, False]


def test_frames_may_overtake_each_other(sealed: tuple[Seal, Seal]) -> None:
    sender, receiver = sealed
    frames = [sender.seal(PORT, b"body") for _ in range(5)]
    order = [0, 3, 1, 4, 2, 1, 3]
    assert [opened(receiver, frames[i]) for i in order] == [True] * 5 + [False] * 2


def test_every_changed_bit_is_refused(sealed: tuple[Seal, Seal]) -> None:
    sender, receiver = sealed
    frame = sender.seal(PORT, b"body")
    for at in range(len(frame)):
        changed = bytearray(frame)
        changed[at] ^= 1
        with pytest.raises(Refused):
            opened(receiver, bytes(changed))
    assert opened(receiver, frame)


def test_a_frame_of_another_key_or_for_another_port_is_refused(sealed: tuple[Seal, Seal]) -> None:
    sender, receiver = sealed
    with pytest.raises(Refused, match="wrong MAC"):
        opened(receiver, Seal(os.urandom(32)).seal(PORT, b"body"))
    with pytest.raises(Refused, match="wrong MAC"):
        opened(receiver, sender.seal(PORT, b"body"), PORT + 1)


def test_a_frame_older_than_its_receiver_is_refused() -> None:
    frame = Seal(KEY).seal(PORT, b"body")
    with pytest.raises(Refused, match="older"):
        opened(Seal(KEY), frame)


def test_an_absurd_length_is_refused(
    sealed: tuple[Seal, Seal], monkeypatch: pytest.MonkeyPatch
) -> None:
    sender, receiver = sealed
    frame = sender.seal(PORT, b"12345")
    monkeypatch.setattr(seal, "MAX_BODY", 4)
    with pytest.raises(Refused, match="announces 5 bytes"):
        opened(receiver, frame)


def test_who_is_forgotten_for_want_of_room_cannot_be_replayed(
    sealed: tuple[Seal, Seal], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seal, "MAX_SENDERS", 2)
    _, receiver = sealed
    frames = [Seal(KEY).seal(PORT, b"body") for _ in range(3)]
    assert all(opened(receiver, frame) for frame in frames)
    with pytest.raises(Refused, match="older"):
        opened(receiver, frames[0])


def test_what_is_remembered_of_a_sender_is_bounded(sealed: tuple[Seal, Seal]) -> None:
    sender, receiver = sealed
    frames = [sender.seal(PORT, b"") for _ in range(3 * seal.MAX_MISSING)]
    for frame in frames[::2]:
        assert opened(receiver, frame)
    (known,) = receiver._senders.values()
    assert len(known.missing) <= seal.MAX_MISSING


# ── on the wire, against a living actor ────────────────────────────────────────


@pytest.fixture(scope="module")
def stage() -> Iterator[Launcher]:
    with on_stage() as launcher:
        yield launcher


@pytest.fixture
def port(stage: Launcher) -> int:
    found: int = report(stage)["port"]
    return found


class Trap:
    """Unpickling this leaves a trace."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def is_hung_up_on(sock: socket.socket) -> bool:
    sock.settimeout(5)
    try:
        return sock.recv(100) == b""
    except ConnectionResetError:
        return True


def test_what_is_not_sealed_changes_nothing(stage: Launcher, port: int, tmp_path: Path) -> None:
    trace = tmp_path / "unpickled"
    body = pickle.dumps((("127.0.0.1", 1), Envelope(ROOT, LAUNCHER, Play("fail"))))
    unsealed = [
        toSendBuffer(Trap(trace)),
        b"512>" + b"\x00" * 512,
        os.urandom(4096),
        Seal(os.urandom(32)).seal(port, pickle.dumps(Trap(trace))),
        Seal(stage.network.keys[0]).seal(port + 1, pickle.dumps(Trap(trace))),
        Seal(stage.network.keys[0]).seal(port, body)[:-1] + b"!",
    ]
    before = report(stage)
    for frame in unsealed:
        for target in (port, stage.admin_port):
            with socket.create_connection(("127.0.0.1", target)) as stranger:
                stranger.sendall(frame)
                assert is_hung_up_on(stranger) or target != port
    after = report(stage)
    assert after["heard"] == before["heard"]
    assert after["refused"]["refused a connection"] == len(unsealed)
    assert not trace.exists()


def test_a_replayed_frame_is_answered_and_dropped(stage: Launcher, port: int) -> None:
    sender = Seal(stage.network.keys[0])
    body = pickle.dumps((("127.0.0.1", 1), Envelope(ROOT, LAUNCHER, Play("remind", (0.0, "once")))))
    frame = sender.seal(port, body)
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", port)) as peer:
            peer.settimeout(5)
            peer.sendall(frame)
            assert peer.recv(100) == sender.acknowledgement(seal.mac_of(frame))
    assert report(stage)["heard"].count("once self") == 1
    assert report(stage)["refused"]["dropped a repeated frame"] == 2


def test_a_frame_in_pieces_is_put_together(stage: Launcher, port: int) -> None:
    sender = Seal(stage.network.keys[0])
    body = pickle.dumps((("127.0.0.1", 1), Envelope(ROOT, LAUNCHER, Play("remind", (0.0, "slow")))))
    with socket.create_connection(("127.0.0.1", port)) as peer:
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in sender.seal(port, body):
            peer.sendall(bytes([byte]))
        assert peer.recv(100)
    assert "slow self" in report(stage)["heard"]


def test_strangers_who_say_nothing_starve_nobody(stage: Launcher, port: int) -> None:
    strangers = [socket.create_connection(("127.0.0.1", port)) for _ in range(MAX_STRANGERS + 20)]
    try:
        begin = time.monotonic()
        report(stage)
        assert time.monotonic() - begin < 1.0
        until(lambda: is_hung_up_on(strangers[0]))
    finally:
        for each in strangers:
            each.close()


def test_a_visitor_without_the_key_gets_no_answer(stage: Launcher, port: int) -> None:
    stranger = replace(stage.network, port=stage.admin_port, keys=(os.urandom(32),))
    assert ask(stranger, Play("remind", (0.0, "visitor")), 0.3) is None
    assert "visitor self" not in report(stage)["heard"]
