"""What async-worker's tests prove of event streams, under the same numbers."""

from __future__ import annotations

from pathlib import Path

import pytest

from actors.errors import Fault
from actors.roles.port import Consuming, QueueLost
from tests.support.sse_driver import Driver
from tests.support.sse_server import Answer, SSEServer, status, stream


def test_an_event_comes_with_its_name_and_its_data(tmp_path: Path) -> None:
    """B44"""
    answer = stream('event: deployment_info\ndata: {"id": 1}\n\n')
    with SSEServer(answer) as server, Driver(server.url, tmp_path) as driver:
        driver.client.consume("/v2/events", 1, 10)
        (record,) = driver.wait_for_events(1)
    assert (record.headers["event"], record.body) == ("deployment_info", b'{"id": 1}')


def test_blank_lines_between_events_are_no_events(tmp_path: Path) -> None:
    """B45"""
    answer = stream("".join(f"event: e{n}\ndata: {n}\n\n\n\n" for n in range(4)))
    with SSEServer(answer) as server, Driver(server.url, tmp_path) as driver:
        driver.client.consume("/v2/events", 1, 10)
        records = driver.wait_for_events(4)
    assert [record.headers["event"] for record in records] == ["e0", "e1", "e2", "e3"]


ENDED = stream("id: 1\ndata: 1\n\n", hold=False)
RESET = stream("id: 1\ndata: 1\n\n", hold=False, reset=True)
GARBAGE = status("200 OK", b"<html>", content_type="text/html")


@pytest.mark.parametrize("answer", [ENDED, RESET], ids=["ended", "reset"])
def test_a_stream_that_ends_is_opened_again_and_read_on(tmp_path: Path, answer: Answer) -> None:
    """B46"""
    answers = answer, stream("id: 2\ndata: 2\n\n")
    with SSEServer(*answers) as server, Driver(server.url, tmp_path) as driver:
        driver.client.consume("/v2/events", 1, 10)
        assert [record.body for record in driver.wait_for_events(2)] == [b"1", b"2"]
    assert len(server.requests) == 2


def test_what_nobody_expects_is_told_once_and_the_stream_is_asked_for_again(
    tmp_path: Path,
) -> None:
    """B47"""
    answers = GARBAGE, stream("id: 1\ndata: 1\n\n")
    with SSEServer(*answers) as server, Driver(server.url, tmp_path) as driver:
        driver.client.consume("/v2/events", 1, 10)
        lost = driver.wait_for(QueueLost)
        assert "text/html" in lost.cause
        driver.client.consume("/v2/events", 2, 10)
        assert driver.wait_for_events(1)[0].body == b"1"
        assert len(driver.all(QueueLost)) == 1


def test_each_connection_is_told_once_and_one_that_fails_is_not(tmp_path: Path) -> None:
    """B48"""
    answers = status("403 Forbidden"), stream("id: 1\ndata: 1\n\n", hold=False), stream()
    with SSEServer(*answers) as server, Driver(server.url, tmp_path) as driver:
        driver.client.consume("/v2/events", 1, 10)
        assert driver.wait_for(QueueLost).fault is Fault.REFUSED
        assert driver.all(Consuming) == []
        driver.client.consume("/v2/events", 2, 10)
        driver.wait_for_events(1)
        driver.ack("/v2/events", 2, 1, 1)
        driver.wait_for(QueueLost, 2)
        driver.client.consume("/v2/events", 3, 10)
        driver.wait_for(Consuming, 2)
    assert [one.epoch for one in driver.all(Consuming)] == [2, 3]
