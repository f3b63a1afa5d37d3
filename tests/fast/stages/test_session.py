"""What an attacker could try on a sealed connection, without sockets."""

from __future__ import annotations

import os
from itertools import pairwise

import pytest

from actors.stages.link import session
from actors.stages.link.session import HEADER_SIZE, Identity, Receiver, Refused, Sender

KEY = os.urandom(32)
A, B, C = ("10.0.0.1", 7000), ("10.0.0.2", 7000), ("10.0.0.3", 7000)


def connected(
    sender: Identity, receiver: Identity, target: session.Address | None = None
) -> tuple[Sender, Receiver]:
    end = Receiver(receiver)
    start = Sender(sender, target or receiver.address, end.greeting)
    end.meet(start.hello, sender.address[0])
    return start, end


def sealed(sender: Sender, number: int, body: bytes) -> bytes:
    return b"".join(sender.seal(number, body))


def opened(receiver: Receiver, frame: bytes) -> bytes:
    receiver.header(frame[:HEADER_SIZE])
    return receiver.body(frame[HEADER_SIZE:])


def test_who_holds_another_key_opens_and_is_opened_by_nothing() -> None:
    sender, receiver = connected(Identity((os.urandom(32),), A), Identity((KEY,), B))
    with pytest.raises(Refused, match="a header that does not open"):
        opened(receiver, sealed(sender, 1, b"body"))


def test_a_recorded_connection_opens_no_second_time() -> None:
    here, there = Identity((KEY,), A), Identity((KEY,), B)
    sender, receiver = connected(here, there)
    frame = sealed(sender, 1, b"body")
    assert opened(receiver, frame) == b"body"
    again = Receiver(there)
    again.meet(sender.hello, A[0])
    with pytest.raises(Refused):
        opened(again, frame)


def test_what_was_for_one_receiver_does_not_open_at_another() -> None:
    """Not even where the attacker has the other greet with the same nonce."""
    here, there, elsewhere = (Identity((KEY,), address) for address in (A, B, C))
    sender, receiver = connected(here, there)
    frame = sealed(sender, 1, b"body")
    other = Receiver(elsewhere)
    other.greeting = receiver.greeting
    other.meet(sender.hello, A[0])
    with pytest.raises(Refused):
        opened(other, frame)


def test_the_same_frame_is_never_sealed_the_same_way() -> None:
    here, there = Identity((KEY,), A), Identity((KEY,), B)
    first, _ = connected(here, there)
    second, _ = connected(here, there)
    frames = {sealed(first, 1, b"body"), sealed(first, 1, b"body"), sealed(second, 1, b"body")}
    assert len(frames) == 3


def test_frames_that_are_reflected_to_their_sender_do_not_open() -> None:
    here, there = Identity((KEY,), A), Identity((KEY,), B)
    sender, _ = connected(here, there)
    _, back = connected(there, here)
    with pytest.raises(Refused):
        opened(back, sealed(sender, 1, b"body"))
    with pytest.raises(Refused):
        sender.acknowledged(sealed(sender, 1, b"")[: session.ANSWER_SIZE])


def test_an_old_answer_acknowledges_nothing_more() -> None:
    sender, receiver = connected(Identity((KEY,), A), Identity((KEY,), B))
    opened(receiver, sealed(sender, 1, b"one"))
    answer = receiver.answer()
    assert sender.acknowledged(answer) == 1
    sealed(sender, 2, b"two")
    with pytest.raises(Refused, match="an answer to nothing"):
        sender.acknowledged(answer)


def test_an_absurd_length_is_refused_before_the_body_comes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sender, receiver = connected(Identity((KEY,), A), Identity((KEY,), B))
    monkeypatch.setattr(session, "MAX_BODY", 4)
    with pytest.raises(Refused, match="announces 5 bytes"):
        receiver.header(sealed(sender, 1, b"12345")[:HEADER_SIZE])


def test_nobody_claims_the_address_of_another() -> None:
    receiver = Receiver(Identity((KEY,), B))
    sender = Sender(Identity((KEY,), A), B, receiver.greeting)
    with pytest.raises(Refused, match=r"claims to be 10\.0\.0\.1"):
        receiver.meet(sender.hello, C[0])


def test_who_does_not_speak_our_language_is_told_apart() -> None:
    with pytest.raises(Refused, match="does not greet as we do"):
        Sender(Identity((KEY,), A), B, b"SSH-2.0-OpenSSH_9.2".ljust(36))
    with pytest.raises(Refused, match="not one of us"):
        Receiver(Identity((KEY,), B)).meet(b"GET / HTTP/1.1".ljust(session.HELLO_SIZE), A[0])


def test_the_first_key_seals_and_all_open() -> None:
    """The steps of a rotation: any two neighbouring ones understand each other."""
    old, new = os.urandom(32), os.urandom(32)
    steps = [(old,), (old, new), (new, old), (new,)]
    for before, after in pairwise(steps):
        for one, other in ((before, after), (after, before)):
            sender, receiver = connected(Identity(one, A), Identity(other, B))
            assert opened(receiver, sealed(sender, 1, b"body")) == b"body"
            assert sender.acknowledged(receiver.answer()) == 1
    sender, receiver = connected(Identity((old,), A), Identity((new,), B))
    with pytest.raises(Refused):
        opened(receiver, sealed(sender, 1, b"body"))


def test_a_short_key_is_no_key() -> None:
    for keys in ((), (b"short",), (KEY, b"short")):
        with pytest.raises(ValueError, match="at least 32 bytes"):
            Identity(keys, A)
