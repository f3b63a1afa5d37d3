"""Where messages come from: a private RabbitMQ or Redis, a stream of events, a directory."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path

from benchmarks.bare import Bare
from benchmarks.setting import Setting
from benchmarks.workers import PROGRAMS, ROOT
from tests.support.broker import Broker, free_port

FOREIGN = ("celery", "dramatiq", "dramatiq.DQ", "dramatiq.XQ")  #: queues that peers declare
PATIENCE = 10.0  #: seconds for a Redis to start


@contextmanager
def rabbitmq() -> Iterator[str]:
    """A node of our own."""
    broker = Broker()
    try:
        yield f"amqp://guest:guest@127.0.0.1:{broker.port}/%2F"
    finally:
        broker.stop()


@contextmanager
def redis() -> Iterator[str]:
    """A server of our own that writes nothing to the disk."""
    if not (program := shutil.which("redis-server")):
        raise FileNotFoundError("no redis-server: install the package redis-server")
    port = free_port()
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    with tempfile.TemporaryDirectory() as directory:
        process = subprocess.Popen([program, *options], cwd=directory, stdout=subprocess.DEVNULL)
        try:
            wait_for(port)
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            process.terminate()
            process.wait()


@contextmanager
def stream(setting: Setting) -> Iterator[str]:
    """A server of events."""
    process = subprocess.Popen(
        [sys.executable, str(PROGRAMS / "stream_server.py")],
        env=os.environ | setting.environment() | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    try:
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.communicate()


SERVERS: dict[str, Callable[[], AbstractContextManager[str]]] = {
    "rabbitmq": rabbitmq,
    "redis": redis,
}


class Places:
    """Starts a server when a worker first needs it, and ends all of them with its block.

    `urls` names those that run already and are not ours to end.
    """

    def __init__(self, **urls: str) -> None:
        self._stack = ExitStack()
        self._urls = urls

    def __enter__(self) -> Places:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @contextmanager
    def ready(self, name: str, setting: Setting, directory: Path) -> Iterator[dict[str, str]]:
        """The place of that name, empty; gives the variables that tell a worker where it is."""
        if name == "rabbitmq":
            url = self._url(name)
            empty_queues(url, setting)
            yield {"URL": url, "CALLBOARD_CONNECTION": url}
        elif name == "redis":
            url = self._url(name)
            empty_redis(url)
            yield {"RQ_REDIS_URL": url}
        elif name == "stream":
            with stream(setting) as url:
                yield {"STREAM": url}
        else:
            yield {"DIRECTORY": str(directory)}

    def _url(self, name: str) -> str:
        if name not in self._urls:
            self._urls[name] = self._stack.enter_context(SERVERS[name]())
        return self._urls[name]


def empty_queues(url: str, setting: Setting) -> None:
    """The queues of the scene anew, and none of the peers'."""
    bare = Bare(url)
    for queue in (*FOREIGN, *setting.queues):
        bare.delete(queue)
    for queue in setting.queues:
        bare.declare(queue)
    bare.close()


def empty_redis(url: str) -> None:
    port = int(url.rpartition(":")[2].partition("/")[0])
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(b"FLUSHALL\r\n")
        connection.recv(64)


def wait_for(port: int) -> None:
    """Until somebody listens there; raises `TimeoutError`."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.05)
    raise TimeoutError(f"nobody listens on port {port}")
