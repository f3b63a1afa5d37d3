"""Who takes part: Callboard, its peers and the limit, each with what its documentation advises."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.setting import Setting

ROOT = Path(__file__).parents[1]
PROGRAMS = ROOT / "benchmarks" / "peers"
ENVIRONMENTS = ROOT / ".callboard" / "peers"


@dataclass(frozen=True)
class Worker:
    """A program that works on what a place holds."""

    name: str
    program: Callable[[Setting], str]  #: what follows the interpreter
    place: str  #: see `benchmarks.places`
    stated: str  #: its settings, for the reader of the results
    package: str = ""  #: what pip is asked for; empty: runs in our own environment
    shows: str = ""  #: distribution whose version names it
    fill: str = ""  #: program that puts messages of the worker's own format
    share: float = 1.0  #: of the messages of a scene: slow ones are given fewer

    def python(self) -> str:
        """The interpreter of its environment, which is made where it is missing."""
        if not self.package:
            return sys.executable
        home = ENVIRONMENTS / self.shows
        python, ready = home / "bin" / "python", home / "ready"
        if not ready.exists() or ready.read_text() != self.package:
            subprocess.run([sys.executable, "-m", "venv", "--clear", str(home)], check=True)
            install = [str(python), "-m", "pip", "install", "-qq", *self.package.split()]
            subprocess.run(install, check=True)
            ready.write_text(self.package)
        return str(python)

    def version(self) -> str:
        """Of its distribution, as installed."""
        if not self.shows:
            return ""
        ask = f"from importlib.metadata import version; print(version({self.shows!r}))"
        return subprocess.check_output([self.python(), "-c", ask], text=True).strip()


def callboard(app: str) -> Callable[[Setting], str]:
    return lambda setting: f"-m actors run {app}:app --name benchmark --prefetch {setting.prefetch}"


def script(path: str) -> Callable[[Setting], str]:
    return lambda setting: path


def faststream(setting: Setting) -> str:
    return (
        f"-m faststream run faststream_each:app --workers {setting.processes} --log-level warning"
    )


def dramatiq(setting: Setting) -> str:
    threads = setting.calls // 2 or (1 if setting.cpu else 8)
    return f"-m dramatiq dramatiq_app --processes 2 --threads {threads}"


def celery(setting: Setting) -> str:
    pool = f"-P threads -c {setting.calls}" if setting.calls else "-P prefork -c 2"
    return f"-m celery -A celery_app worker {pool} -l ERROR"


WORKERS = {
    worker.name: worker
    for worker in (
        Worker("bare socket", script("bare_socket.py"), "rabbitmq",
               "counts frames, decodes nothing, acknowledges every 256th with `multiple`"),
        Worker("callboard", callboard("callboard_app"), "rabbitmq",
               "`def` handler (`async def` where it awaits), `--prefetch` as in the scene"),
        Worker("pika, ack each 256th", script("pika_many.py"), "rabbitmq",
               "`SelectConnection`, `multiple` ack", shows="pika"),
        Worker("pika, ack each", script("pika_each.py"), "rabbitmq",
               "`BlockingConnection`, `start_consuming`", shows="pika", share=0.2),
        Worker("aio-pika", script("aio_pika_each.py"), "rabbitmq",
               "`connect_robust`, `message.process()`",
               "aio-pika", "aio-pika", share=0.1),
        Worker("async-worker", script("async_worker_bulk.py"), "rabbitmq",
               "bulks as in the scene, its own flush interval of 60 s",
               "async-worker==0.20.2", "async-worker", share=0.2),
        Worker("FastStream", faststream, "rabbitmq",
               "`faststream run`, a subscriber of `bytes`, `Channel(prefetch_count)`, no logs",
               "faststream[rabbit,cli]", "faststream", share=0.1),
        Worker("Dramatiq", dramatiq, "rabbitmq",
               "2 processes of 8 threads (its default: 8 threads, a process for each core); of 1 "
               "where messages take CPU, which is faster; its default middleware",
               "dramatiq[rabbitmq]", "dramatiq", "dramatiq_app.py", share=0.1),
        Worker("Celery", celery, "rabbitmq",
               "prefork, 2 processes, results ignored; threads where the handler waits",
               "celery", "celery", "celery_app.py", share=0.05),
        Worker("callboard, spool", callboard("spool_app"), "directory",
               "`Publisher.put`, each flushed to the disk before it returns", fill="spool_app.py"),
        Worker("huey, SQLite", script("-m huey.bin.huey_consumer huey_app.huey -w 2 -k process"),
               "directory", "`SqliteHuey`, its default: not flushed to the disk; 2 processes",
               "huey", "huey", "huey_app.py", share=0.04),
        Worker("RQ, worker", script("-m rq.cli worker --quiet"), "redis",
               "`rq worker`, which forks for each job; Redis keeps all in memory, nothing on disk",
               "rq", "rq", "rq_app.py", share=0.005),
        Worker("RQ, simple worker", script(
                   "-m rq.cli worker --quiet --worker-class rq.worker.SimpleWorker"),
               "redis", "the same with `SimpleWorker`, which does not fork",
               "rq", "rq", "rq_app.py", share=0.02),
        Worker("callboard, event stream", callboard("stream_app"), "stream",
               "settles each event and keeps a checkpoint on the disk"),
        Worker("httpx-sse", script("stream_httpx_sse.py"), "stream",
               "a plain loop: nothing is settled or kept",
               "httpx-sse httpx", "httpx-sse"),
        Worker("sseclient-py", script("stream_sseclient.py"), "stream",
               "a plain loop over requests: nothing is settled or kept",
               "sseclient-py requests", "sseclient-py"),
    )
}  # fmt: skip
