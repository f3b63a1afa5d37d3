"""A sealed connection yields what was sent, in its order, or nothing."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.stages.link import session
from actors.stages.link.session import (
    ANSWER_SIZE,
    GREETING_SIZE,
    HEADER_SIZE,
    HELLO_SIZE,
    Identity,
    Receiver,
    Refused,
    Sender,
)

KEY = os.urandom(32)
HERE, THERE = ("10.0.0.1", 7000), ("10.0.0.2", 7000)

bodies = st.lists(st.binary(max_size=64), min_size=1, max_size=6)


def pair(
    sender: Identity | None = None, receiver: Identity | None = None
) -> tuple[Sender, Receiver]:
    """Both ends of a new connection."""
    accepted = Receiver(receiver or Identity((KEY,), THERE))
    connected = Sender(sender or Identity((KEY,), HERE), THERE, accepted.greeting)
    accepted.meet(connected.hello, HERE[0])
    return connected, accepted


def sealed(sender: Sender, number: int, body: bytes) -> bytes:
    return b"".join(sender.seal(number, body))


def opened(receiver: Receiver, frame: bytes) -> tuple[int, bytes]:
    header = receiver.header(frame[:HEADER_SIZE])
    assert len(frame) == HEADER_SIZE + header.length + session.TAG_SIZE
    return header.number, receiver.body(frame[HEADER_SIZE:])


def flipped(data: bytes, bit: int) -> bytes:
    """The bytes with one bit changed, where it is one of theirs."""
    changed = bytearray(data)
    if 0 <= bit < 8 * len(data):
        changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


@given(bodies)
def test_frames_open_in_the_order_in_which_they_were_sealed(sent: list[bytes]) -> None:
    sender, receiver = pair()
    frames = [sealed(sender, number, body) for number, body in enumerate(sent, 7)]
    assert [opened(receiver, frame) for frame in frames] == list(enumerate(sent, 7))
    assert sender.acknowledged(receiver.answer()) == len(sent)


@given(bodies, st.data())
def test_any_flipped_bit_never_opens(sent: list[bytes], data: st.DataObject) -> None:
    sender, receiver = pair()
    frames = [sealed(sender, 1, body) for body in sent]
    victim = data.draw(st.integers(0, len(sent) - 1))
    bit = data.draw(st.integers(0, 8 * len(frames[victim]) - 1))
    for frame in frames[:victim]:
        opened(receiver, frame)
    with pytest.raises(Refused):
        opened(receiver, flipped(frames[victim], bit))


@given(st.binary(max_size=64), st.data())
def test_any_flipped_bit_of_the_handshake_opens_nothing(body: bytes, data: st.DataObject) -> None:
    """The nonces, both addresses and the sender's id are bound into the keys."""
    receiver = Receiver(Identity((KEY,), THERE))
    bit = data.draw(st.integers(0, 8 * (GREETING_SIZE + HELLO_SIZE) - 1))

    def shake_hands() -> None:
        sender = Sender(Identity((KEY,), HERE), THERE, flipped(receiver.greeting, bit))
        receiver.meet(flipped(sender.hello, bit - 8 * GREETING_SIZE), HERE[0])
        opened(receiver, sealed(sender, 1, body))

    with pytest.raises(Refused):
        shake_hands()


@given(st.lists(st.binary(max_size=8), min_size=2, max_size=6), st.data())
def test_what_is_left_out_repeated_or_swapped_does_not_open(
    sent: list[bytes], data: st.DataObject
) -> None:
    sender, receiver = pair()
    frames = [sealed(sender, 1, body) for body in sent]
    order = data.draw(st.lists(st.integers(0, len(sent) - 1), min_size=1, max_size=8))
    for place, index in enumerate(order):
        if index != place:
            with pytest.raises(Refused):
                opened(receiver, frames[index])
            return
        assert opened(receiver, frames[index]) == (1, sent[index])


@given(st.data())
def test_any_flipped_bit_of_an_answer_is_refused(data: st.DataObject) -> None:
    sender, receiver = pair()
    for _ in range(3):
        opened(receiver, sealed(sender, 1, b""))
    answer = flipped(receiver.answer(), data.draw(st.integers(0, 8 * ANSWER_SIZE - 1)))
    with pytest.raises(Refused):
        sender.acknowledged(answer)


@given(st.binary(max_size=200))
def test_noise_is_refused(noise: bytes) -> None:
    _, receiver = pair()
    with pytest.raises(Refused):
        opened(receiver, noise)
