"""Web services beside workers, over real HTTP: crew's example under Starlette and under tornado."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.services import calls_app
from tests.services.conftest import Run
from tests.services.worker import REPOSITORY, BrokerPlace, until
from tests.support.broker import free_port

Serve = Callable[..., str]


@pytest.fixture
def queues(rabbitmq: BrokerPlace) -> Iterator[BrokerPlace]:
    """A broker with nothing in the queues of the tasks, and none of its callers after."""
    calls_app.empty_queues(rabbitmq)
    yield rabbitmq
    vhost = rabbitmq.url.rpartition("/")[2]
    own = rabbitmq.broker.ctl("list_queues", "-p", vhost, "name", "-q").split()
    with rabbitmq.admin() as admin:
        for name in own:  # of services that were ended, for the 60 s that they outlive them
            if name.startswith(("callboard.replies.", "callboard.events.")):
                admin.channel.queue_delete(name)


@pytest.fixture
def serve(queues: BrokerPlace, tmp_path: Path) -> Iterator[Serve]:
    """Starts a web service of these arguments; returns its URL once it answers."""
    started: list[subprocess.Popen[bytes]] = []

    def start(*arguments: str) -> str:
        port = free_port()
        told = [argument.replace("PORT", str(port)) for argument in arguments]
        with (tmp_path / "web").open("a") as out:
            web = subprocess.Popen(
                [sys.executable, "-m", *told], cwd=REPOSITORY, stdout=out, stderr=out,
                env={**os.environ, "CALLBOARD_CONNECTION": queues.url},
            )  # fmt: skip
        started.append(web)

        def answers() -> bool:
            assert web.poll() is None, (tmp_path / "web").read_text()
            try:
                return httpx.get(f"http://127.0.0.1:{port}/nowhere").status_code > 0
            except httpx.TransportError:
                return False

        until(answers)
        return f"http://127.0.0.1:{port}"

    yield start
    for web in started:
        web.terminate()
        assert web.wait(20) is not None


WEB = {
    "starlette": ("uvicorn", "handlers.web_starlette:web", "--port", "PORT"),
    "tornado": ("handlers.web_tornado", "PORT"),
}


@pytest.mark.parametrize("framework", WEB)
def test_the_service_of_crew_calls_in_parallel_in_time_and_when_all_workers_are_gone(
    run: Run, queues: BrokerPlace, serve: Serve, framework: str
) -> None:
    worker = run("handlers.calls:app", "--connection", queues.url)
    worker.ready(60)
    url = serve(*WEB[framework])
    with httpx.Client(base_url=url, timeout=30) as web:
        assert web.get("/").text == "Wake up Neo.\n"
        assert web.get("/stat").text.endswith('". And I serve 1 tasks')
        assert web.get("/parallel").text.startswith("Test result: Wake up Neo.\n\nStat result: I'm")
        begun = time.monotonic()
        assert web.get("/fast").text == "Timeout"
        assert 3 <= time.monotonic() - begun < 5
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0
        begun = time.monotonic()
        assert web.get("/fast").text == "All workers are gone"
        assert 3 <= time.monotonic() - begun < 5


@pytest.mark.parametrize("framework", WEB)
def test_all_that_poll_get_the_event_and_miss_none_between_two_polls(
    run: Run, queues: BrokerPlace, serve: Serve, framework: str
) -> None:
    run("handlers.calls:app", "--connection", queues.url).ready(60)
    url = serve(*WEB[framework])
    with httpx.Client(base_url=url, timeout=30, limits=httpx.Limits(max_connections=60)) as web:
        with ThreadPoolExecutor(50) as pool:
            polls = [pool.submit(web.get, "/subscribe") for _ in range(50)]
            time.sleep(1.5)  # they are HTTP requests: nothing tells from outside that they wait
            assert web.post("/publish", content="one").text == "ok"
            events = [poll.result().json() for poll in polls]
        assert {event["data"] for event in events} == {"one"}
        (last,) = {event["id"] for event in events}
        web.post("/publish", content="two")
        until(lambda: web.get("/subscribe", params={"since": last}).json()["data"] == "two")
        assert web.get("/subscribe", params={"since": "unknown"}).json()["data"] == "one"


def test_web_workers_that_fork_after_a_call_go_on_calling(
    run: Run, queues: BrokerPlace, serve: Serve
) -> None:
    run("tests.services.calls_app:app", "--connection", queues.url).ready(60)
    url = serve(
        "gunicorn", "--preload", "-w", "2", "-b", "127.0.0.1:PORT", "tests.services.wsgi_app:web"
    )
    pids = set()
    with ThreadPoolExecutor(8) as pool:
        for text in pool.map(lambda _: httpx.get(url, timeout=30).text, range(40)):
            before, result, pid = text.split()
            assert (before, result) == ("42", "3")
            pids.add(pid)
    assert len(pids) == 2
