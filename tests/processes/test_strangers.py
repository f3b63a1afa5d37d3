"""What an attacker on the network can do to a living actor: be refused, counted and named."""

from __future__ import annotations

import os
import pickle
import socket
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from thespian.system.transport.streamBuffer import toSendBuffer

from actors.plan.network import Network
from actors.roles.protocol import Neighbours
from actors.stages.link import listener as listener
from actors.stages.link.session import GREETING_SIZE, HELLO_SIZE, MAX_BODY, Address, Identity
from actors.stages.thespian.launcher import Launcher, ask
from tests.support.peers import Peer, Trap, envelope, is_hung_up_on
from tests.support.thespian_cast import Play, on_stage, report, until

KEY = os.urandom(32)
HERE = "127.0.0.3"


@pytest.fixture(scope="module")
def stage() -> Iterator[Launcher]:
    with on_stage(Network("127.0.0.2", keys=(KEY,))) as launcher:
        yield launcher


@pytest.fixture
def target(stage: Launcher) -> Address:
    return "127.0.0.2", report(stage)["port"]


@pytest.fixture
def friend() -> Identity:
    """Who holds the key; nobody listens at its address."""
    return Identity((KEY,), (HERE, 9))


@pytest.fixture
def stranger() -> Identity:
    """Who does all as it should be, and has another key."""
    return Identity((os.urandom(32),), (HERE, 9))


def refused(stage: Launcher, what: str = "refused a connection") -> int:
    return int(report(stage)["refused"].get(what, 0))


def heard(stage: Launcher, what: str) -> int:
    return int(report(stage)["heard"].count(f"{what} self"))


def say(stage: Launcher, what: str) -> bytes:
    return envelope(stage.top, Play("remind", (0.0, what)))


# ── without the key ────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "noise",
    [
        b"GET / HTTP/1.1\r\nHost: callboard\r\n\r\n".ljust(HELLO_SIZE),
        b"\x16\x03\x01" + os.urandom(200),
        b"512>" + b"\x00" * 512,
        os.urandom(4096),
    ],
    ids=["http", "tls", "thespian", "noise"],
)
def test_who_does_not_speak_our_language_is_hung_up_on(
    stage: Launcher, target: Address, noise: bytes
) -> None:
    before = refused(stage)
    with socket.create_connection(target) as attacker:
        attacker.sendall(noise)
        assert is_hung_up_on(attacker)
    assert refused(stage) == before + 1


@pytest.mark.parametrize("at_admin", [False, True], ids=["actor", "admin"])
def test_a_pickle_without_a_seal_is_not_unpickled(
    stage: Launcher, target: Address, tmp_path: Path, at_admin: bool
) -> None:
    trace = tmp_path / "unpickled"
    place = ("127.0.0.2", stage.admin_port) if at_admin else target
    for frame in (toSendBuffer(Trap(trace)), pickle.dumps(Trap(trace)) * 20):
        with socket.create_connection(place) as attacker:
            attacker.sendall(frame.ljust(200))
            assert is_hung_up_on(attacker)
    assert not trace.exists()


@pytest.mark.parametrize("at_admin", [False, True], ids=["actor", "admin"])
def test_a_pickle_under_another_key_is_not_unpickled(
    stage: Launcher, target: Address, stranger: Identity, tmp_path: Path, at_admin: bool
) -> None:
    trace = tmp_path / "unpickled"
    place = ("127.0.0.2", stage.admin_port) if at_admin else target
    with Peer(stranger, place) as attacker:
        attacker.write(attacker.seal(pickle.dumps(Trap(trace))))
        assert attacker.is_hung_up_on
    assert not trace.exists()


def test_the_trap_is_one_for_who_holds_the_key(
    stage: Launcher, target: Address, friend: Identity, tmp_path: Path
) -> None:
    """The key is what stands between a stranger and running code: it lets in wholly."""
    trace = tmp_path / "unpickled"
    with Peer(friend, target) as peer:
        peer.send(pickle.dumps(Trap(trace)))
    until(trace.exists)


def test_a_visitor_without_the_key_gets_no_answer(stage: Launcher) -> None:
    stranger = Network("127.0.0.2", stage.admin_port, (os.urandom(32),))
    assert ask(stranger, Play("remind", (0.0, "visitor")), 0.3) is None
    assert not heard(stage, "visitor")


# ── with what was recorded ─────────────────────────────────────────────────────


def test_a_connection_that_is_replayed_changes_nothing(
    stage: Launcher, target: Address, friend: Identity
) -> None:
    with Peer(friend, target) as peer:
        peer.send(say(stage, "recorded"))
    until(lambda: heard(stage, "recorded"))
    before = refused(stage)
    for place in (target, ("127.0.0.2", stage.admin_port)):
        with socket.create_connection(place, 5.0, (HERE, 0)) as attacker:
            attacker.sendall(b"".join(peer.said))
            assert is_hung_up_on(attacker)
    assert refused(stage) == before + 1
    assert heard(stage, "recorded") == 1


def test_a_frame_that_is_replayed_ends_its_connection(
    stage: Launcher, target: Address, friend: Identity
) -> None:
    with Peer(friend, target) as peer:
        frame = peer.send(say(stage, "frame"))
        peer.write(frame)
        assert peer.is_hung_up_on
    assert heard(stage, "frame") == 1


def test_a_frame_of_one_connection_opens_on_no_other(
    stage: Launcher, target: Address, friend: Identity
) -> None:
    with Peer(friend, target) as one, Peer(friend, target) as other:
        other.write(one.seal(say(stage, "elsewhere")))
        assert other.is_hung_up_on
    assert not heard(stage, "elsewhere")


def test_what_an_actor_sends_does_not_open_when_it_comes_back(
    stage: Launcher, target: Address
) -> None:
    """The attacker stands where the actor connects to, and passes all on to the actor."""
    before = refused(stage)
    with socket.create_server((HERE, 0)) as listener:
        listener.settimeout(5)
        address = listener.getsockname()
        introduce(stage, address, "mirror#1")
        stage.send(Play("remind", (0.0, "mirrored")))
        stage.send(Play("send", ("mirror#1", Play("remind", (0.0, "reflection")))))
        report(stage)
        actor, _ = listener.accept()
        actor.settimeout(5)
        with actor, socket.create_connection(target, 5.0) as mirror:
            actor.sendall(mirror.recv(GREETING_SIZE))
            said = actor.recv(4096)
            while len(said) <= HELLO_SIZE:
                said += actor.recv(4096)
            mirror.sendall(said)
            assert is_hung_up_on(mirror)
    assert refused(stage) > before
    assert not heard(stage, "reflection")


def test_no_greeting_comes_twice(target: Address, friend: Identity) -> None:
    greetings = set()
    for _ in range(50):
        with Peer(friend, target) as peer:
            greetings.add(peer.greeting)
    assert len(greetings) == 50


def test_a_frame_that_is_sent_again_for_want_of_an_answer_is_taken_once(
    stage: Launcher, target: Address, friend: Identity
) -> None:
    """No attack: an honest sender whose connection was lost."""
    for _ in range(3):
        with Peer(friend, target) as peer:
            peer.send(say(stage, "again"))
    assert heard(stage, "again") == 1
    assert refused(stage, "dropped a repeated frame") == 2


# ── lengths, and pieces ────────────────────────────────────────────────────────


def test_an_absurd_length_is_refused_before_memory_is_taken(
    stage: Launcher, target: Address, friend: Identity
) -> None:
    with Peer(friend, target) as peer:
        header = struct.pack("!IQ", MAX_BODY + 1, 1)
        peer.write(peer.session._frames.encrypt(bytes(12), header, None))
        assert peer.is_hung_up_on


def test_who_goes_in_the_middle_leaves_nothing(
    stage: Launcher, target: Address, friend: Identity
) -> None:
    for part in (1, 20, 40, 60):
        with Peer(friend, target) as peer:
            peer.write(peer.seal(say(stage, "half"))[:part])
    with Peer(friend, target) as peer:
        peer.send(say(stage, "whole"))
    until(lambda: heard(stage, "whole"))
    assert not heard(stage, "half")


def test_a_frame_in_pieces_is_put_together(
    stage: Launcher, target: Address, friend: Identity
) -> None:
    with Peer(friend, target) as peer:
        for byte in peer.seal(say(stage, "slow")):
            peer.write(bytes([byte]))
        until(lambda: heard(stage, "slow"))


# ── many, and slow ones ────────────────────────────────────────────────────────


def test_five_hundred_idle_connections_starve_nobody(
    stage: Launcher, target: Address, friend: Identity
) -> None:
    with Peer(friend, target) as known:
        known.send(say(stage, "before"))
        idle = [socket.create_connection(target) for _ in range(500)]
        try:
            begin = time.monotonic()
            known.send(say(stage, "flood"))
            with Peer(replace_id(friend), target) as new:
                new.send(say(stage, "flood"))
            until(lambda: heard(stage, "flood") == 2)
            assert time.monotonic() - begin < 2.0
            assert is_hung_up_on(idle[0])
        finally:
            for each in idle:
                each.close()
    assert refused(stage) >= 500 - listener.MAX_OF_ONE_ORIGIN


def test_a_dribble_is_ended(monkeypatch: pytest.MonkeyPatch, stranger: Identity) -> None:
    monkeypatch.setattr(listener, "STRANGER_SECONDS", 0.3)
    with on_stage(Network("127.0.0.2", keys=(KEY,))) as stage:
        target = "127.0.0.2", report(stage)["port"]
        with Peer(stranger, target) as slow:
            frame = slow.seal(b"x" * 1000)

            def is_ended() -> bool:
                try:
                    slow.write(frame[:1])
                except OSError:
                    return True
                time.sleep(0.02)
                return False

            until(is_ended)
        assert refused(stage) == 1


# ── who is asked ───────────────────────────────────────────────────────────────


def introduce(stage: Launcher, address: Address, name: str) -> None:
    """Have the top actor take an address for that of an actor."""
    from actors.stages.thespian.actor_process import Envelope
    from actors.stages.thespian.transport import address_of

    known = ((name, address_of(address[1], address[0])),)
    message = Envelope(stage.top, "launcher", Neighbours(), known)
    stage._base._tx_to_actor(stage._root, message)


@pytest.mark.parametrize(
    "answer",
    [lambda: b"no greeting of ours".ljust(GREETING_SIZE), lambda: b"CBT1" + os.urandom(500)],
    ids=["another language", "noise"],
)
def test_who_cannot_answer_is_told_nothing(stage: Launcher, answer: Callable[[], bytes]) -> None:
    before = refused(stage, "refused an answer")
    with socket.create_server((HERE, 0)) as listener:
        listener.settimeout(5)
        introduce(stage, listener.getsockname(), "impostor#1")
        stage.send(Play("send", ("impostor#1", Play("remind", (0.0, "s3cret")))))
        report(stage)
        actor, _ = listener.accept()
        with actor:
            actor.sendall(answer())
            said: list[Any] = []
            actor.settimeout(5)
            try:
                while data := actor.recv(4096):
                    said.append(data)
            except ConnectionResetError:
                pass
    assert b"s3cret" not in b"".join(said)
    assert until(lambda: refused(stage, "refused an answer") > before)


def replace_id(identity: Identity) -> Identity:
    return Identity(identity.keys, identity.address)
