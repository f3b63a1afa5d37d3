"""Events of a real server reach the port once, and none is lost, whatever befalls the stream."""

from __future__ import annotations

import logging
import select
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from actors.connectors.spool.schema import DEAD
from actors.connectors.sse import connection as module
from actors.errors import Fault
from actors.logic.settlement.ledger import Flush
from actors.roles.port import (
    Consuming,
    Depth,
    Fetched,
    Lost,
    QueueLost,
    Republish,
    Republished,
    RepublishFailed,
    Stopped,
)
from tests.support.sse_driver import Driver, cut
from tests.support.sse_server import STREAM, SSEServer, Wire, status, stream


def event(id: int, data: str = "") -> str:
    return f"id: {id}\ndata: {data or id}\n\n"


def stored(driver: Driver) -> str:
    return driver.client._path.read_text()


def test_an_event_becomes_a_record(tmp_path: Path) -> None:
    block = 'event: word\nid: 7\nretry: 1000\ndata: {"a":\ndata: 1}\n\n'
    with SSEServer(stream(block)) as server, Driver(server.url, tmp_path) as driver:
        driver.client.consume("/x", 1, 10)
        (record,) = driver.wait_for_events(1)
    assert (record.id, record.queue, record.body) == ("7", "/x", b'{"a":\n1}')
    assert record.headers == {"event": "word", "id": "7", "retry": 1000}
    assert abs(record.enqueued - time.time()) < 60


@pytest.mark.parametrize("chunked", [False, True])
def test_events_arrive_while_the_stream_is_open(tmp_path: Path, chunked: bool) -> None:
    answer = stream("data: a", "\r", "\n\rdata", ": b\n\n", chunked=chunked)
    with SSEServer(answer) as server, Driver(server.url, tmp_path) as driver:
        driver.client.consume("/x", 1, 10)
        assert [record.body for record in driver.wait_for_events(2)] == [b"a", b"b"]


def test_several_paths_flow_beside_each_other(tmp_path: Path) -> None:
    with SSEServer(stream(event(1))) as server, Driver(server.url, tmp_path) as driver:
        for epoch, queue in enumerate(("/a", "/b", "/c"), 1):
            driver.client.consume(queue, epoch, 10)
        driver.wait_for_events(3)
        assert {(one.queue, one.epoch) for one in driver.all(Fetched)} == {
            ("/a", 1), ("/b", 2), ("/c", 3),
        }  # fmt: skip


# ── the stream breaks ──────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        (stream(event(1), hold=False), "the server ended the stream"),
        (stream(event(1), chunked=True, hold=False), "the server ended the stream"),
        (stream(event(1), chunked=True, reset=True, hold=False), "ReadError"),
        (stream(event(1)), "idle for 0.3 s"),
    ],
    ids=["close", "last chunk", "reset", "stall"],
)
def test_a_stream_that_breaks_is_told_and_goes_on_after_the_last_event(
    tmp_path: Path, answer: object, cause: str
) -> None:
    with (
        SSEServer(answer, stream(event(2))) as server,  # type: ignore[arg-type]
        Driver(server.url, tmp_path, idle_timeout=0.3) as driver,
    ):
        driver.client.consume("/x", 1, 10)
        driver.wait_for_events(1)
        driver.ack("/x", 1, 1, 1)
        lost = driver.wait_for(QueueLost)
        assert (lost.queue, lost.epoch, lost.fault) == ("/x", 1, Fault.UNREACHABLE)
        assert cause in lost.cause
        assert lost.proven
        driver.client.consume("/x", 2, 10)
        driver.wait_for_events(2)
    assert driver.ids() == ["1", "2"]
    assert driver.all(Fetched)[1].first == 1
    assert server.requests[1].headers["last-event-id"] == "1"


def test_half_an_event_is_fetched_again(tmp_path: Path) -> None:
    half = stream(event(1), 'id: 2\ndata: {"amount": 100', hold=False)
    whole = stream(event(2, '{"amount": 1000}'))
    with SSEServer(half, whole) as server, Driver(server.url, tmp_path) as driver:
        driver.client.consume("/x", 1, 10)
        assert driver.wait_for_events(2)[1].body == b'{"amount": 1000}'
    assert server.requests[1].headers["last-event-id"] == "1"


def test_a_receipt_outlives_its_stream(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    answers = stream(event(1), hold=False), stream(event(2))
    with SSEServer(*answers) as server, Driver(server.url, tmp_path) as driver:
        driver.client.consume("/x", 1, 10)
        driver.wait_for_events(2)
        assert not driver.all(QueueLost)
        assert [one.first for one in driver.all(Fetched)] == [1, 2]
        driver.ack("/x", 1, 1, 2)
        driver.until(lambda: '"id": "2"' in stored(driver))
        assert len(driver.all(Consuming)) == 1
    assert "stream /x: the server ended the stream; again in" in caplog.text


def test_a_stream_that_flaps_faster_than_handlers_finish_makes_progress(tmp_path: Path) -> None:
    answers = [stream("retry: 1\n\n", event(n), hold=False) for n in range(1, 5)]
    with SSEServer(*answers, stream()) as server, Driver(server.url, tmp_path) as driver:
        driver.client.consume("/x", 1, 10)
        driver.wait_for_events(4)
        assert driver.ids() == ["1", "2", "3", "4"]
        driver.ack("/x", 1, 1, 4)
        driver.until(lambda: '"id": "4"' in stored(driver))


def test_a_refusal_is_told_once_nothing_is_unsettled(tmp_path: Path) -> None:
    def refuse(wire: Wire) -> None:
        wire.head("403 Forbidden", content_length="0")

    answers = stream(event(1), event(2), hold=False), refuse
    with SSEServer(*answers) as server, Driver(server.url, tmp_path) as driver:
        driver.client.consume("/x", 1, 10)
        driver.wait_for_events(2)
        driver.until(lambda: len(server.requests) == 2)
        driver.ack("/x", 1, 1, 1)
        driver.client.settle("/x", 1, Flush(failed=(2,)))
        assert driver.wait_for(QueueLost).fault == Fault.REFUSED
        driver.client.consume("/x", 2, 10)
        driver.wait_for(QueueLost, 2)
    assert driver.ids() == ["1", "2"]


def test_what_a_server_repeats_is_not_handed_out_twice(tmp_path: Path) -> None:
    twins = "id: 3\ndata: a\n\nid: 3\ndata: a\n\n"
    first = stream(event(1), event(2), twins, hold=False)
    second = stream(event(1), event(2), twins, event(4))
    with SSEServer(first, second) as server, Driver(server.url, tmp_path) as driver:
        driver.client.consume("/x", 1, 10)
        driver.wait_for_events(5)
        assert driver.ids() == ["1", "2", "3", "3", "4"]


def test_events_without_an_id_are_never_taken_for_repetitions(tmp_path: Path) -> None:
    answers = stream("data: tick\n\n", hold=False), stream("data: tick\n\n")
    with SSEServer(*answers) as server, Driver(server.url, tmp_path) as driver:
        driver.client.consume("/x", 1, 10)
        driver.wait_for_events(2)


def test_a_gap_in_the_ids_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    answers = stream(event(1), hold=False), stream(event(57))
    with SSEServer(*answers) as server, Driver(server.url, tmp_path) as driver:
        driver.client.consume("/x", 1, 10)
        driver.wait_for_events(2)
    assert "stream /x: asked for what follows id 1, it went on at 57" in caplog.text


def test_a_stream_without_ids_is_announced_as_what_it_is(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    blocks = "data: a\n\n", "data: b\n\n"
    with SSEServer(stream(*blocks)) as server, Driver(server.url, tmp_path) as driver:
        driver.client.consume("/x", 1, 10)
        driver.wait_for_events(2)
        driver.ack("/x", 1, 1, 2)
    assert (
        caplog.text.count("connection sse: stream /x: has no ids: at most once across restarts")
        == 1
    )


def test_an_id_that_no_header_can_hold_is_not_asked_for(tmp_path: Path) -> None:
    odd = "id: \x01\ndata: a\n\n", f"id: {'x' * 70_000}\ndata: b\n\n"
    answers = stream(event(1), *odd, hold=False), stream(event(2))
    with SSEServer(*answers) as server, Driver(server.url, tmp_path) as driver:
        driver.client.consume("/x", 1, 10)
        driver.wait_for_events(4)
    assert server.requests[1].headers["last-event-id"] == "1"


# ── bounds ─────────────────────────────────────────────────────────────────────


def endless(wire: Wire) -> None:
    wire.head(content_type=STREAM)
    while True:
        wire.write(b"x" * 65536)


def large(wire: Wire) -> None:
    wire.head(content_type=STREAM)
    wire.write(event(1).encode())
    while True:
        wire.write(b"data: x\n" * 8192)


@pytest.mark.parametrize("answer", [endless, large])
def test_what_has_no_end_ends_with_a_clear_line(tmp_path: Path, answer: object) -> None:
    with SSEServer(answer) as server, Driver(server.url, tmp_path) as driver:  # type: ignore[arg-type]
        driver.client.consume("/x", 1, 10)
        if answer is large:
            driver.wait_for_events(1)
            driver.ack("/x", 1, 1, 1)
        lost = driver.wait_for(QueueLost)
    assert lost.fault == Fault.REFUSED
    assert "more than" in lost.cause


def test_garbage_is_read_over_and_what_follows_is_delivered(tmp_path: Path) -> None:
    garbage = bytes(range(256)) * 500 + b"\n\n"
    with SSEServer(stream(garbage, event(1))) as server, Driver(server.url, tmp_path) as driver:
        driver.client.consume("/x", 1, 10)
        assert driver.wait_for_events(1)[0].body == b"1"


def test_the_socket_is_not_read_while_the_window_is_spent(tmp_path: Path) -> None:
    sent = 0

    def flood(wire: Wire) -> None:
        nonlocal sent
        wire.head(content_type=STREAM)
        for number in range(1, 401):
            wire.write(event(number, "x" * 50_000).encode())
            sent = number

    with SSEServer(flood) as server, Driver(server.url, tmp_path) as driver:
        driver.client.consume("/x", 1, 3)
        driver.wait_for_events(3)
        before = -1
        while before != sent:  # until the buffers of both kernels are full
            before = sent
            assert not select.select([driver.client.fileno()], [], [], 0.5)[0]
        assert sent < 400
        driver.ack("/x", 1, 1, 1)
        driver.wait_for_events(4)
        assert driver.ids() == ["1", "2", "3", "4"]

        def all_sent() -> bool:
            last = driver.all(Fetched)[-1]
            driver.ack("/x", 1, 1, last.first + len(last.ends) // 4 - 1)
            return sent == 400

        driver.until(all_sent)


# ── settlements ────────────────────────────────────────────────────────────────


def test_what_is_given_back_comes_again_and_is_flagged(tmp_path: Path) -> None:
    blocks = event(1), event(2), event(3)
    with SSEServer(stream("".join(blocks))) as server, Driver(server.url, tmp_path) as driver:
        driver.client.consume("/x", 1, 10)
        driver.wait_for_events(3)
        flush = Flush(prefix=1, acked=((1, 1),), failed=(2,), returned=(3,))
        driver.client.settle("/x", 1, flush)
        driver.wait_for_events(5)
        again = driver.all(Fetched)[1]
        assert (again.first, again.flagged) == (4, ((0, 1),))
        assert [record.id for record in cut(again)] == ["2", "3"]


def test_a_retry_comes_again_after_its_delay(tmp_path: Path) -> None:
    with SSEServer(stream(event(1))) as server, Driver(server.url, tmp_path) as driver:
        driver.client.consume("/x", 1, 10)
        driver.wait_for_events(1)
        begin = time.monotonic()
        driver.client.republish(Republish(5, "/x", 1, 1, dead=False, delay=0.3, attempts=1))
        assert driver.wait_for(Republished) == Republished(5)
        driver.ack("/x", 1, 1, 1)
        driver.client.measure("/x")
        assert driver.wait_for(Depth) == Depth("/x", 1)
        driver.wait_for_events(2)
        assert time.monotonic() - begin >= 0.3
        assert (driver.all(Fetched)[1].first, driver.all(Fetched)[1].flagged) == (2, ((0, 1),))
        assert not stored(driver)
        driver.ack("/x", 1, 2, 2)
        driver.until(lambda: '"id": "1"' in stored(driver))


def test_a_copy_comes_with_the_attempts_that_it_is_told_to_have(tmp_path: Path) -> None:
    with SSEServer(stream(event(1))) as server, Driver(server.url, tmp_path) as driver:
        driver.client.consume("/x", 1, 10)
        driver.wait_for_events(1)
        driver.client.republish(Republish(1, "/x", 1, 1, dead=False, attempts=7))
        driver.wait_for_events(2)
        assert driver.all(Fetched)[1].flagged == ((0, 7),)


def test_a_dead_letter_lies_in_the_spool_before_the_checkpoint_moves(tmp_path: Path) -> None:
    with SSEServer(stream(event(1, "x"))) as server, Driver(server.url, tmp_path) as driver:
        driver.client.consume("/x", 1, 10)
        driver.wait_for_events(1)
        driver.client.republish(
            Republish(
                9, "/x", 1, 1, dead=True, attempts=8, route="r", error="ValueError", reason="no"
            )
        )
        driver.wait_for(Republished)
        assert not stored(driver)
        with sqlite3.connect(tmp_path / "spool.db") as spool:
            (row,) = spool.execute(
                "SELECT queue, state, attempts, reason, error, route, id, headers, body"
                " FROM message JOIN content USING (seq)"
            )
        spool.close()
        assert row == (
            "/x", DEAD, 8, "no", "ValueError", "r", "1", b'{"event": "message", "id": "1"}', b"x",
        )  # fmt: skip
        driver.ack("/x", 1, 1, 1)
        driver.until(lambda: '"id": "1"' in stored(driver))


def test_a_dead_letter_that_cannot_be_stored_holds_the_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "spool.db").mkdir()
    with SSEServer(stream(event(1))) as server, Driver(server.url, tmp_path) as driver:
        driver.client.consume("/x", 1, 10)
        driver.wait_for_events(1)
        driver.client.republish(Republish(9, "/x", 1, 1, dead=True))
        assert "is a directory" in driver.wait_for(RepublishFailed).cause
        driver.client.shut()
        driver.wait_for(Lost)
    assert not (tmp_path / "sse.checkpoint").read_text()


def test_settlements_of_an_ended_epoch_are_ignored(tmp_path: Path) -> None:
    with SSEServer(stream(event(1))) as server, Driver(server.url, tmp_path) as driver:
        driver.client.consume("/x", 1, 10)
        driver.wait_for_events(1)
        driver.client.consume("/x", 2, 10)
        driver.wait_for_events(2)
        assert driver.all(Fetched)[1].flagged == ((0, 1),)
        driver.ack("/x", 1, 1, 1)
        driver.client.republish(Republish(1, "/x", 1, 1, dead=True))
        driver.client.settle("/nowhere", 1, Flush(acked=((1, 1),)))
        driver.client.cancel("/x", 1)
        driver.client.shut()
        assert driver.wait_for(Lost) == Lost("")
        assert not driver.all(Republished)
        assert not driver.all(Stopped)
    assert not (tmp_path / "sse.checkpoint").read_text()


# ── the end, and the next beginning ────────────────────────────────────────────


def test_after_cancel_what_is_out_can_still_be_settled(tmp_path: Path) -> None:
    with (
        SSEServer(stream(event(1) + event(2) + event(3))) as server,
        Driver(server.url, tmp_path) as driver,
    ):
        driver.client.consume("/x", 1, 2)
        driver.wait_for_events(2)
        driver.client.cancel("/x", 1)
        driver.wait_for(Stopped)
        driver.ack("/x", 1, 1, 2)
        driver.client.shut()
        driver.wait_for(Lost)
        assert driver.ids() == ["1", "2"]
    assert '"id": "2"' in (tmp_path / "sse.checkpoint").read_text()


def test_a_stream_goes_on_after_a_pause_on_the_same_connection(tmp_path: Path) -> None:
    def ticking(wire: Wire) -> None:
        wire.head(content_type=STREAM)
        wire.write(event(1).encode())
        paused.wait(10)
        wire.write(event(2).encode())
        wire.hold()

    paused = threading.Event()
    with SSEServer(ticking) as server, Driver(server.url, tmp_path) as driver:
        driver.client.consume("/x", 1, 10)
        driver.wait_for_events(1)
        driver.client.cancel("/x", 1)
        driver.wait_for(Stopped)
        paused.set()
        driver.client.resume("/x", 1)
        driver.wait_for_events(2)
        assert driver.all(Fetched)[1].first == 2
        assert len(driver.all(Consuming)) == 2
        assert len(server.requests) == 1


def test_a_stream_that_could_not_be_had_before_a_pause_is_asked_for_after_it(
    tmp_path: Path,
) -> None:
    answers = status("503 Busy"), stream(event(1))
    with SSEServer(*answers) as server, Driver(server.url, tmp_path) as driver:
        driver.client.consume("/x", 1, 10)
        driver.client.cancel("/x", 1)
        driver.until(lambda: driver.client._sources["/x"].attempt == 0)
        driver.client.resume("/x", 1)
        driver.wait_for_events(1)
        assert not driver.all(QueueLost)


def test_a_restart_begins_after_the_settled_prefix(tmp_path: Path) -> None:
    blocks = "".join(event(n) for n in range(1, 6))
    with SSEServer(stream(blocks)) as server:
        with Driver(server.url, tmp_path, last_event_id="0") as driver:
            driver.client.consume("/x?token=canary", 1, 10)
            driver.wait_for_events(5)
            # As a process that dies would have it: 1, 2 and 4 are done, 3 and 5 are not.
            flush = Flush(prefix=2, acked=((1, 2), (4, 4)))
            driver.client.settle("/x?token=canary", 1, flush)
            driver.until(lambda: '"id": "2"' in stored(driver))
            assert "canary" not in stored(driver)
        with Driver(server.url, tmp_path, last_event_id="0") as driver:
            driver.client.consume("/x?token=canary", 1, 10)
            driver.wait_for(Consuming)
        with Driver(server.url, tmp_path) as driver:
            driver.client.consume("/other", 1, 10)
            driver.wait_for(Consuming)
    asked = [request.headers.get("last-event-id") for request in server.requests]
    assert asked == ["0", "2", None]


WORKER = """
import select, sys, time
from pathlib import Path
from tests.support.sse_driver import Driver
driver = Driver(sys.argv[1], Path(sys.argv[2]))
driver.client.consume("/x", 1, 10)
for count in range(1, 1000):
    driver.wait_for_events(count)
    sys.stdout.write(driver.ids()[count - 1] + "\\n")
    sys.stdout.flush()
    driver.ack("/x", 1, count, count)
"""


def test_a_killed_worker_loses_no_event(tmp_path: Path) -> None:
    def ticking(wire: Wire) -> None:
        begin = int(server.requests[-1].headers.get("last-event-id", "0")) + 1
        wire.head(content_type=STREAM)
        for number in range(begin, begin + 200):
            wire.write(event(number).encode())
        wire.hold()

    handled: list[int] = []
    with SSEServer(ticking) as server:
        for _ in range(3):
            with subprocess.Popen(
                [sys.executable, "-c", WORKER, server.url, str(tmp_path)],
                stdout=subprocess.PIPE, cwd=Path(__file__).parents[2],
            ) as worker:  # fmt: skip
                assert worker.stdout
                handled += [int(worker.stdout.readline()) for _ in range(120)]
                worker.kill()
    assert set(handled) >= set(range(1, max(handled) + 1))


def test_one_stream_has_one_worker(tmp_path: Path) -> None:
    url = "http://127.0.0.1:1/"
    with Driver(url, tmp_path), Driver(url, tmp_path) as second:
        lost = second.wait_for(Lost)
    assert lost.fault == Fault.REFUSED
    assert f"checkpoint {tmp_path / 'sse.checkpoint'}: another process holds it" in lost.cause


def test_a_checkpoint_that_cannot_be_kept_refuses_the_connection(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "sse.checkpoint"
    with Driver("http://127.0.0.1:1/", tmp_path, checkpoint=str(path)) as driver:
        lost = driver.wait_for(Lost)
    assert lost.fault == Fault.REFUSED
    assert f"checkpoint {path}: cannot be kept: " in lost.cause


def test_certificates_that_are_not_there_refuse_the_connection(tmp_path: Path) -> None:
    with Driver("https://127.0.0.1:1/", tmp_path, verify="/nowhere.pem") as driver:
        assert "verify='/nowhere.pem'" in driver.wait_for(Lost).cause


def test_a_full_disk_pauses_the_intake_until_the_checkpoint_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "WRITE_AGAIN", 0.2)
    with SSEServer(stream(event(1))) as server, Driver(server.url, tmp_path) as driver:
        driver.client.consume("/x", 1, 10)
        driver.wait_for_events(1)
        blocker = tmp_path / "sse.checkpoint.tmp"
        blocker.mkdir()
        driver.ack("/x", 1, 1, 1)
        driver.until(lambda: "cannot be written: Is a directory" in caplog.text)
        blocker.rmdir()
        driver.until(lambda: '"id": "1"' in stored(driver))


def test_a_stream_that_waited_for_the_disk_is_read_on_though_nothing_else_stirs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "WRITE_AGAIN", 0.2)
    full = threading.Event()

    def answer(wire: Wire) -> None:
        wire.head(content_type=STREAM)
        wire.write((event(1) + event(2)).encode())
        full.wait(10.0)
        wire.write(event(3).encode())
        wire.hold()

    with SSEServer(answer) as server, Driver(server.url, tmp_path) as driver:
        driver.client.consume("/x", 1, 1)
        driver.wait_for_events(1)
        blocker = tmp_path / "sse.checkpoint.tmp"
        blocker.mkdir()
        driver.ack("/x", 1, 1, 1)  # the second takes its place: there is no room to read on
        driver.until(lambda: "cannot be written" in caplog.text)
        full.set()
        driver.ack("/x", 1, 2, 2)
        blocker.rmdir()
        driver.wait_for_events(3)


def test_closing_leaves_no_thread_and_can_be_repeated(tmp_path: Path) -> None:
    with SSEServer(stream(event(1))) as server, Driver(server.url, tmp_path) as driver:
        driver.client.consume("/x", 1, 10)
        driver.wait_for_events(1)
        driver.client.close()
        assert "event streams" not in {thread.name for thread in threading.enumerate()}


def test_secrets_are_in_no_text(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "actors")
    secrets = {"user": "u", "password": "canary", "headers": {"X-Key": "canary"}}
    with (
        SSEServer(stream(event(1), hold=False), stream()) as server,
        Driver(server.url, tmp_path, **secrets) as driver,
    ):
        driver.client.consume("/x", 1, 10)
        driver.wait_for_events(1)
        driver.until(lambda: len(server.requests) == 2)
        assert "canary" not in caplog.text + str(driver.reports) + repr(driver.client._settings)
