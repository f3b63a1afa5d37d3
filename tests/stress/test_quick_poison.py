"""Messages made to hurt: each is handled or dead-lettered, and its neighbours do not notice.

In every row the connection stays: same process, same epoch, no restart.
"""

from __future__ import annotations

import gzip

import pytest

from actors.connectors.spool.admin import Stored
from tests.services.conftest import Run
from tests.services.worker import BrokerPlace, Place, SpoolPlace, Worker, put, until, until_is
from tests.stress.rig import callboard, memory, stop
from tests.support.broker import RawProperties

APPS = "tests.stress.apps"

UNDECODABLE = {
    "empty": b"",
    "random": bytes(range(256)),
    "half": b'{"n": 1',
    "deep": b"[" * 100_000,
    "deep and whole": b"[" * 100_000 + b"]" * 100_000,
    "digits": b'{"n": ' + b"9" * 5000 + b"}",
    "surrogate": b'{"n": "\\ud800"}',
    "not a number": b'{"n": NaN}',
    "another type": b'["n"]',
    "zeros": b"\0" * 1000,
}

ENCODINGS = ("gzip", "br", "gzip, br", "no such encoding", "\x1b[31m\r\n")


def untouched(worker: Worker, pid: int) -> None:
    """The connection never noticed."""
    assert worker.pids("connection") == [pid]
    assert "lost" not in worker.output
    assert "Traceback" not in worker.output


def dead_lettered(place: Place, count: int) -> list[Stored]:
    """The dead letters, once there are so many."""
    until_is(count, lambda: len(place.dead("work")))
    return place.dead("work")


def test_bodies_that_cannot_be_decoded_are_dead_letters_alone(
    rabbitmq: BrokerPlace, run: Run
) -> None:
    worker = run(f"{APPS}:decoding", "--connection", rabbitmq.url)
    (pid,) = worker.pids("connection")
    with rabbitmq.admin() as admin:
        for number, body in enumerate(UNDECODABLE.values()):
            admin.publish("work", b'{"n": %d}' % number, body)
    until_is(set(range(len(UNDECODABLE))), lambda: set(worker.times()))
    letters = dead_lettered(rabbitmq, len(UNDECODABLE))
    assert {letter.error for letter in letters} == {"actors.errors.InvalidMessage"}
    assert all(letter.reason for letter in letters)
    untouched(worker, pid)
    assert all(times == 1 for times in worker.times().values())
    stop(worker)


def test_nothing_is_unpacked_that_says_it_is_packed(rabbitmq: BrokerPlace, run: Run) -> None:
    """A gzip bomb of 256 MiB in 256 KiB stays as small as it came."""
    worker = run(f"{APPS}:decoding", "--connection", rabbitmq.url)
    (pid,) = worker.pids("connection")
    (handler,) = worker.pids("handler")
    bomb = gzip.compress(b"\0" * (256 << 20), 1)
    with rabbitmq.admin() as admin:
        for encoding in ENCODINGS:
            admin.publish("work", bomb, content_encoding=encoding)
        admin.publish("work", bomb[:100], content_encoding="gzip")
        admin.publish("work", b'{"n": 1}', content_encoding="gzip")  # a lie, and readable
    until_is(1, lambda: len(worker.times()))
    until_is(len(ENCODINGS) + 1, lambda: len(rabbitmq.dead("work")))
    assert memory(handler, "VmHWM") < 150 << 20
    untouched(worker, pid)
    stop(worker)


@pytest.mark.parametrize("app", ["decoding", "bytewise"])
def test_headers_that_break_pikas_decoder_break_nothing(
    rabbitmq: BrokerPlace, run: Run, app: str
) -> None:
    """A date past the year 9999 and an array nested 2,000 deep: handled, for nobody reads them."""
    worker = run(f"{APPS}:{app}", "--connection", rabbitmq.url)
    (pid,) = worker.pids("connection")
    with rabbitmq.admin() as admin:
        for poison in (RawProperties.late(), RawProperties.deep()):
            admin.channel.basic_publish("", "work", b'{"n": 8}', poison)
            admin.publish("work", b'{"n": 8}')
    until_is(4, lambda: sum(worker.times().values()))
    untouched(worker, pid)
    stop(worker)
    assert rabbitmq.dead("work") == []


def test_poison_in_headers_is_a_dead_letter_where_a_handler_reads_them(
    rabbitmq: BrokerPlace, run: Run
) -> None:
    worker = run("plain", "--connection", rabbitmq.url)
    (pid,) = worker.pids("connection")
    with rabbitmq.admin() as admin:
        for number, poison in enumerate((RawProperties.late(), RawProperties.deep())):
            admin.channel.basic_publish("", "work", b'{"n": 99}', poison)
            admin.publish("work", b'{"n": %d}' % number)
    assert {letter.error for letter in dead_lettered(rabbitmq, 2)} == {
        "actors.errors.InvalidMessage"
    }
    until(lambda: {0, 1} <= set(worker.times()))
    assert worker.pids("connection") == [pid]
    assert "lost: " not in worker.output
    listed = callboard(worker, "dead", "list", "work", "--connection", rabbitmq.url)
    assert listed.count("InvalidMessage") == 2, listed
    stop(worker)


def test_a_message_without_body_and_properties_is_delivered_as_it_is(
    rabbitmq: BrokerPlace, run: Run
) -> None:
    worker = run(f"{APPS}:bytewise", "--connection", rabbitmq.url)
    with rabbitmq.admin() as admin:
        admin.publish("work", b"")
    until_is({0: 1}, worker.times)
    stop(worker)
    assert rabbitmq.dead("work") == []


def test_what_is_undecodable_in_a_spool_is_a_dead_letter_too(run: Run, spool: SpoolPlace) -> None:
    put(spool, "work", {"n": 1}, {"m": 2}, {"n": "x"})
    worker = run(f"{APPS}:decoding", "--connection", spool.url)
    until_is({1: 1}, worker.times)
    until_is(2, lambda: len(spool.dead("work")))
    stop(worker)
