"""What async-worker's tests prove on a real broker, under the same numbers."""

from __future__ import annotations

from pathlib import Path

from actors.api.outlet import ConnectionOutlet
from tests.services.conftest import Run
from tests.services.worker import BrokerPlace, put, until
from tests.support.broker import Broker

WORKER = """
import os
from actors.asyncworker import App

app = App()

@app.route(["work"])
async def handler(messages):
    for message in messages:
        with open(os.environ["RECORD"], "a") as record:
            record.write(f"{message.body}\\n")
        %s
"""


def burst(run: Run, place: BrokerPlace, directory: Path, does: str) -> list[str]:
    """Messages as the handler got them."""
    (directory / "myworker.py").write_text(WORKER % does)
    worker = run("myworker:app", "--app-dir", str(directory), "--connection", place.url, "--burst")
    assert worker.wait() == 0
    record = directory / "record"
    return record.read_text().splitlines() if record.exists() else []


def test_a_message_that_fails_once_is_seen_twice(
    rabbitmq: BrokerPlace, run: Run, tmp_path: Path
) -> None:
    """B31"""
    put(rabbitmq, "work", {"a": 1})
    does = "if not message.redelivered: raise ValueError('once')"
    assert burst(run, rabbitmq, tmp_path, does) == ["{'a': 1}"] * 2
    assert rabbitmq.ready("work") == 0


def test_a_message_that_is_rejected_for_good_is_seen_once_whatever_is_raised(
    rabbitmq: BrokerPlace, run: Run, tmp_path: Path
) -> None:
    """B32"""
    put(rabbitmq, "work", {"a": 1})
    does = "message.reject(requeue=False); raise ValueError('after the mark')"
    assert burst(run, rabbitmq, tmp_path, does) == ["{'a': 1}"]
    assert rabbitmq.ready("work") == 0
    assert burst(run, rabbitmq, tmp_path, "pass") == ["{'a': 1}"]


def test_a_connection_is_opened_only_for_what_is_done(
    own_broker: Broker, rabbitmq: BrokerPlace, run: Run
) -> None:
    """B39"""
    vhost = rabbitmq.url.rpartition("/")[2]

    def connections() -> int:
        return own_broker.ctl("list_connections", "vhost").split().count(vhost)

    worker = run("plain", "--connection", rabbitmq.url)
    worker.ready()
    assert connections() == 1
    worker.launcher.terminate()
    assert worker.wait() == 0
    until(lambda: connections() == 0)
    outlet = ConnectionOutlet("amqp", own_broker.settings(vhost))
    outlet.put_sync("work", {"a": 1})
    assert connections() == 1
    assert own_broker.ctl("list_consumers", "-p", vhost).strip() == ""
    outlet.close()
