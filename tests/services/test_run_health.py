"""What probes, Prometheus and systemd see of a whole run, from its start to its end."""

from __future__ import annotations

import http.client
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.services.conftest import Run
from tests.services.worker import (
    BrokerPlace,
    Place,
    SpoolPlace,
    Worker,
    numbers,
    put,
    until,
    until_is,
)
from tests.support.broker import free_port

APP = "tests.services.health_app:app"


def get(port: int, path: str) -> tuple[int, str]:
    """Status and body; 0 where nobody answers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    with closing(connection), suppress(ConnectionError):
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()
    return 0, ""


def samples(port: int) -> dict[tuple[str, ...], float]:
    """Every number of the page, by its name and its label values in the order of their names."""
    status, page = get(port, "/metrics")
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in (text_string_to_metric_families(page) if status == 200 else ())
        for sample in family.samples
    }


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(20)
        yield listener


def stuck(place: Place, run: Run, tmp_path: Path, *flags: str, **environment: str) -> Worker:
    """A worker whose handler does not come back until its gate is gone."""
    (tmp_path / "record.gate").touch()
    put(place, "work", {"n": 0, "do": "wait"})
    worker = run(APP, "--connection", place.url, *flags, **environment)
    until(lambda: worker.handled() and worker.status().get("ready"))
    return worker


def test_probes_follow_a_worker_from_its_start_through_its_drain_to_its_end(
    place: Place, run: Run, tmp_path: Path, port: int
) -> None:
    worker = stuck(place, run, tmp_path, "--health", f"127.0.0.1:{port}")
    until_is((200, "ok\n"), lambda: get(port, "/readyz"))
    assert get(port, "/livez") == (200, "ok\n")
    worker.signal(signal.SIGTERM)
    until_is((503, "draining\n"), lambda: get(port, "/readyz"))
    assert get(port, "/livez") == (200, "ok\n")
    assert samples(port)["callboard_in_flight", "work"] == 1
    (tmp_path / "record.gate").unlink()
    assert worker.wait() == 0
    assert get(port, "/livez") == (0, "")
    assert [file.suffix for file in (tmp_path / "run").iterdir()] == [".json"]


def test_what_waits_in_a_spool_is_measured(
    spool: SpoolPlace, run: Run, tmp_path: Path, port: int
) -> None:
    (tmp_path / "record.gate").touch()
    put(spool, "work", *({"n": n, "do": "wait"} for n in range(1, 6)))
    stuck(spool, run, tmp_path, "--health", f"127.0.0.1:{port}", "--prefetch", "1")
    # It may be counted before the first is in hand.
    until(lambda: samples(port).get(("callboard_spool_waiting", "work")) in (5, 6))


def test_a_worker_without_its_broker_lives_and_is_not_ready(run: Run, port: int) -> None:
    run("plain", "--connection", "amqp://127.0.0.1:1/", "--health", f"127.0.0.1:{port}")
    until(lambda: samples(port).get(("callboard_connected", "rabbitmq")) == 0)
    assert get(port, "/readyz") == (503, "starting\n")
    assert get(port, "/livez") == (200, "ok\n")


def test_a_broker_that_comes_back_makes_it_ready_again(
    own_rabbitmq: BrokerPlace, run: Run, port: int
) -> None:
    run("plain", "--connection", own_rabbitmq.url, "--health", f"127.0.0.1:{port}")
    until_is((200, "ok\n"), lambda: get(port, "/readyz"))
    own_rabbitmq.broker.kill()
    try:
        until_is((503, "starting\n"), lambda: get(port, "/readyz"))
        assert get(port, "/livez") == (200, "ok\n")
    finally:
        own_rabbitmq.broker.start()
    until_is((200, "ok\n"), lambda: get(port, "/readyz"), 60.0)


def test_metrics_count_over_all_processes_and_through_their_deaths(
    place: Place, run: Run, port: int
) -> None:
    put(place, "work", *numbers(range(20)), {"n": 20, "do": "dead letter"})
    worker = run(APP, "--connection", place.url, "--health", f"127.0.0.1:{port}")
    until(lambda: samples(port).get(("callboard_messages_settled_total", "work", "acked")) == 20)
    seen = samples(port)
    assert seen["callboard_messages_received_total", "work"] == 21
    assert seen["callboard_messages_settled_total", "work", "dead"] == 1
    assert seen["callboard_bulk_size_count", "work"] == 21
    assert seen["callboard_handler_duration_seconds_count", "work"] == 21
    assert seen["callboard_actors_up", "handler"] == 2
    assert seen["seen_total", "good"] == 21
    assert seen["took_seconds_count",] == 21
    assert next(key[:3] for key in seen if key[0] == "callboard_build_info") == (
        "callboard_build_info",
        APP,
        "7",
    )
    both = {line["pid"] for line in worker.handled()}
    until(lambda: samples(port).get(("open",)) == len(both))
    for pid in worker.pids("handler"):
        os.kill(pid, signal.SIGKILL)
    until(lambda: not both & set(worker.pids("handler")) and len(worker.pids("handler")) == 2)
    put(place, "work", *numbers(range(21, 24)), {"n": 24, "do": "raise once"})
    restarts = ("callboard_actor_restarts_total",)
    until(lambda: sum(v for k, v in samples(port).items() if k[:1] == restarts) == 2)
    until(lambda: samples(port).get(("callboard_messages_settled_total", "work", "acked")) == 24)
    seen = samples(port)
    assert seen["seen_total", "good"] == 26, "those of the dead, four new ones, one of them twice"
    assert seen["callboard_handler_failures_total", "ValueError", "work"] == 1
    assert seen["open",] <= 2, "what a gauge said dies with its process"


def test_without_health_nothing_is_measured_and_no_file_is_made(
    spool: SpoolPlace, run: Run, tmp_path: Path
) -> None:
    put(spool, "work", *numbers(range(5)))
    worker = run(APP, "--connection", spool.url)
    until(lambda: len(worker.handled()) == 5 and worker.status().get("ready"))
    assert [file.suffix for file in (tmp_path / "run").iterdir()] == [".json"]


def test_an_address_that_is_taken_is_one_line_and_78(
    spool: SpoolPlace, run: Run, port: int
) -> None:
    with socket.create_server(("127.0.0.1", port)):
        worker = run("plain", "--connection", spool.url, "--health", f"127.0.0.1:{port}")
        assert worker.wait() == 78
    assert worker.output.splitlines()[-1] == (
        f"callboard: --health 127.0.0.1:{port}: Address already in use"
    )
    assert "Traceback" not in worker.output


def test_idle_sockets_do_not_touch_the_worker(spool: SpoolPlace, run: Run, port: int) -> None:
    worker = run("plain", "--connection", spool.url, "--health", f"127.0.0.1:{port}")
    worker.ready()
    idle = [socket.create_connection(("127.0.0.1", port)) for _ in range(1000)]
    try:
        put(spool, "work", *numbers(range(100)))
        until(lambda: len(worker.times()) == 100)
        assert get(port, "/livez") == (200, "ok\n")
    finally:
        for one in idle:
            one.close()
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0


def test_two_who_ask_at_once_are_both_answered(spool: SpoolPlace, run: Run, port: int) -> None:
    """Each question of the launcher used to cost `callboard status` its own."""
    worker = run("plain", "--connection", spool.url, "--health", f"127.0.0.1:{port}")
    worker.ready()
    assert all(worker.status() for _ in range(100))


def test_systemd_is_told_of_readiness_life_and_the_end_and_handlers_cannot_speak_to_it(
    spool: SpoolPlace, run: Run, tmp_path: Path, systemd: socket.socket
) -> None:
    worker = stuck(
        spool, run, tmp_path, NOTIFY_SOCKET=str(tmp_path / "notify"), WATCHDOG_USEC="1000000"
    )
    heard: list[str] = []

    def hear(wanted: str) -> None:
        while wanted not in heard:
            heard.extend(systemd.recv(4096).decode().split("\n"))

    hear("READY=1")
    assert "STATUS=ready" in heard
    heard.clear()
    hear("WATCHDOG=1")
    worker.signal(signal.SIGTERM)
    hear("STOPPING=1")
    hear("EXTEND_TIMEOUT_USEC=55000000")
    heard.clear()
    hear("WATCHDOG=1")
    (tmp_path / "record.gate").unlink()
    assert worker.wait() == 0
    assert [line["systemd"] for line in worker.handled()] == ["[]"]
