"""Callers that know nothing of Callboard, each in an environment of its own, call one worker."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.services import calls_app
from tests.services.conftest import Run
from tests.services.worker import REPOSITORY, BrokerPlace

#: What pip is asked for. crew names a fork of pika that is gone; pika itself was meant.
AIO_PIKA = ("aio-pika==10.2.1",)
CELERY = ("celery==5.7.0",)
CREW = ("shortuuid", "pika==0.12.0")
CREW_ALONE = "crew==0.9.2"


@pytest.fixture
def worker(run: Run, rabbitmq: BrokerPlace) -> BrokerPlace:
    """The broker of a running worker."""
    calls_app.empty_queues(rabbitmq)
    run("tests.services.calls_app:app", "--connection", rabbitmq.url).ready(60)
    return rabbitmq


def python_with(packages: tuple[str, ...], alone: str = "") -> str:
    """The interpreter of an environment that holds these, made where there is none."""
    name = hashlib.sha256(repr((packages, alone, sys.version)).encode()).hexdigest()[:12]
    home = REPOSITORY / ".venv" / "strangers" / name
    python, ready = home / "bin" / "python", home / "ready"
    if not ready.exists():
        pip = [str(python), "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(home)], check=True)
        subprocess.run([*pip, *packages], check=True)
        if alone:
            subprocess.run([*pip, "--no-deps", "--use-pep517", alone], check=True)
        ready.touch()
    return str(python)


def told(python: str, code: str, place: BrokerPlace, folder: Path) -> list[Any]:
    """What a stranger's program prints, a JSON value a line."""
    with (folder / "stranger").open("w+") as out:
        subprocess.run(
            [python, "-c", code, place.url], stdout=out, stderr=subprocess.STDOUT,
            cwd=folder, timeout=60, check=False,
        )  # fmt: skip
    text = (folder / "stranger").read_text()
    try:
        return [json.loads(line) for line in text.splitlines()]
    except ValueError:
        raise AssertionError(text) from None


def test_json_rpc_of_aio_pika(worker: BrokerPlace, tmp_path: Path) -> None:
    code = """
import asyncio, json, sys
import aio_pika
from aio_pika.patterns import JsonRPC
async def main():
    connection = await aio_pika.connect(sys.argv[1])
    async with connection:
        rpc = await JsonRPC.create(await connection.channel())
        print(json.dumps(await rpc.call("add", {"a": 1, "b": 2})))
        try:
            await rpc.call("div", {"a": 1, "b": 0})
        except Exception as error:
            print(json.dumps([type(error).__name__, "ZeroDivisionError" in repr(error)]))
asyncio.run(main())
"""
    assert told(python_with(AIO_PIKA), code, worker, tmp_path) == [3, ["JsonRPCError", True]]


def test_producers_of_celery_with_rpc_results(worker: BrokerPlace, tmp_path: Path) -> None:
    code = """
import json, sys
from celery import Celery
from kombu import Queue
app = Celery(broker=sys.argv[1], backend="rpc://")
def ask(task, *given, **options):
    queue = Queue(task, no_declare=True)
    return app.send_task(task, *given, queue=queue, **options).get(timeout=20)
print(json.dumps(ask("add", (1, 2))))
print(json.dumps(ask("add", (1,), {"b": 4})))
try:
    ask("div", (1, 0))
except Exception as error:
    print(json.dumps(type(error).__name__))
try:
    ask("add", (1, 2), link=app.signature("mul"))
except Exception as error:
    print(json.dumps("callbacks is not supported" in str(error)))
"""
    assert told(python_with(CELERY), code, worker, tmp_path) == [
        3, 5, "ZeroDivisionError", True,
    ]  # fmt: skip


def test_the_client_of_crew_with_json(worker: BrokerPlace, tmp_path: Path) -> None:
    code = """
import collections, collections.abc, json, sys
collections.Callable = collections.abc.Callable  # this pika is older than Python 3.10
from urllib.parse import urlsplit
from crew.master.threaded_client import Client
url = urlsplit(sys.argv[1])
def call(*given, **options):
    for _ in range(9):
        client = Client(url.hostname, url.port, url.username, url.password, url.path[1:])
        try:
            return client.call("test", *given, serializer="json", **options).wait(3)
        except Exception:  # two threads share its connection: one request in five never leaves it
            pass
print(json.dumps(call()))
print(json.dumps(call("*" * 20000, priority=9)))
print(json.dumps(call({"unheard": 1})["error"]["type"]))
"""
    python = python_with(CREW, CREW_ALONE)
    assert told(python, code, worker, tmp_path) == [
        "Wake up Neo.0", "Wake up Neo.20000", "InvalidMessage",
    ]  # fmt: skip
