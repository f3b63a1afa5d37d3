"""Tasks over RabbitMQ: whole workers, real callers, replies that find their way or are counted."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pika
import pytest

from actors import (
    AMQPConnection,
    App,
    NotSupported,
    PublishError,
    ReplyLost,
    Status,
    TaskExpired,
    TaskFailed,
    TaskTimeout,
)
from actors.api.connections import parse_connection
from actors.logic.messages.compression import compressed
from tests.services import calls_app
from tests.services.conftest import Run
from tests.services.worker import REPOSITORY, BrokerPlace, Worker, until, until_is

APP = "tests.services.calls_app:app"


@pytest.fixture
def app(rabbitmq: BrokerPlace) -> Iterator[App]:
    """The tasks, for callers of this vhost."""
    calls_app.empty_queues(rabbitmq)
    caller = calls_app.app
    caller.places = (place_of(rabbitmq),)
    yield caller
    caller.close()
    caller.places = ()


def place_of(rabbitmq: BrokerPlace) -> tuple[str, str, str]:
    connection = parse_connection(rabbitmq.url)
    assert isinstance(connection, AMQPConnection)
    return ("rabbitmq", "amqp", connection.as_json(connection.vhost, {}))


def work(run: Run, rabbitmq: BrokerPlace, *flags: str, app: str = APP, **env: str) -> Worker:
    worker = run(app, "--connection", rabbitmq.url, *flags, **env)
    worker.ready(60)
    return worker


def reply_queues(rabbitmq: BrokerPlace) -> list[str]:
    listed = rabbitmq.broker.ctl("list_queues", "-p", rabbitmq.url.rpartition("/")[2], "name", "-q")
    return [name for name in listed.split() if name.startswith("callboard.replies.")]


def test_calls_bring_results_failures_and_the_exceptions_that_are_declared(
    run: Run, rabbitmq: BrokerPlace, app: App
) -> None:
    work(run, rabbitmq)
    assert calls_app.add.call_sync(2, 3) == 5
    reply = calls_app.add.request_sync(1, 1)
    assert reply.value == 2
    assert reply.job.status_sync() is Status.FINISHED
    with pytest.raises(TaskFailed, match="ZeroDivisionError") as failed:
        calls_app.div.call_sync(1, 0)
    assert "return a / b" in failed.value.traceback
    with pytest.raises(calls_app.NotFoundError):
        calls_app.div.call_sync(-1, 1)
    long = "x" * 300_000
    assert calls_app.echo.call_sync(long) == long
    until_is(2, lambda: len(rabbitmq.dead("div")))


def test_gather_keeps_the_order_and_hangs_for_nobody(
    run: Run, rabbitmq: BrokerPlace, app: App
) -> None:
    work(run, rabbitmq)

    async def call() -> list[Any]:
        calls = [calls_app.add.job(n, n) for n in range(18)]
        late = calls_app.sleeps.options(wait=1).job(3)
        return [*await app.gather(*calls, calls_app.div.job(1, 0), late, return_exceptions=True)]

    *sums, failed, timed_out = asyncio.run(call())
    assert sums == [2 * n for n in range(18)]
    assert isinstance(failed, TaskFailed)
    assert isinstance(timed_out, TaskTimeout)


def test_a_bulk_task_gives_each_caller_its_own(run: Run, rabbitmq: BrokerPlace, app: App) -> None:
    work(run, rabbitmq)

    async def call() -> list[int]:
        return [*await asyncio.gather(*(calls_app.squares.call(n) for n in range(100)))]

    assert asyncio.run(call()) == [n * n for n in range(100)]


def test_nobody_began_it_and_it_has_begun_are_told_apart(
    run: Run, rabbitmq: BrokerPlace, app: App
) -> None:
    with pytest.raises(PublishError, match="unheard: there is no such queue"):
        app.jobs.call_sync("unheard", {})
    worker = work(run, rabbitmq)
    begun = time.monotonic()
    with pytest.raises(TaskTimeout):
        calls_app.sleeps.options(wait=2).call_sync(30)
    assert 1.9 < time.monotonic() - begun < 4
    worker.signal(signal.SIGKILL, to_all=True)
    begun = time.monotonic()
    with pytest.raises(TaskExpired):
        calls_app.add.options(expires=1, wait=20).call_sync(1, 2)
    assert 1 < time.monotonic() - begun < 4
    with pytest.raises(TaskExpired):
        calls_app.add.options(wait=1).call_sync(1, 2)


@pytest.mark.parametrize("name", ["hangs", "dies"])
def test_a_caller_hears_of_a_process_that_had_to_be_killed_or_died(
    run: Run, rabbitmq: BrokerPlace, app: App, name: str
) -> None:
    work(run, rabbitmq)
    begun = time.monotonic()
    with pytest.raises(TaskFailed) as failed:
        app.tasks[name].call_sync()
    kind = failed.value.type.rpartition(".")[2]
    assert kind == {"hangs": "TimeoutError", "dies": "HandlerCrashed"}[name]
    assert time.monotonic() - begun < 10


def test_a_higher_priority_goes_before_what_waits_and_is_refused_where_it_would_not(
    run: Run, rabbitmq: BrokerPlace, app: App
) -> None:
    with pytest.raises(NotSupported, match="task add: priority 9 on RabbitMQ needs a queue"):
        calls_app.add.options(priority=9).call_sync(1, 2)
    work(run, rabbitmq)

    async def call() -> list[int]:
        ended: list[int] = []

        async def nap(number: int, priority: int) -> None:
            await calls_app.naps.options(priority=priority).call(0.05)
            ended.append(number)

        low = [asyncio.ensure_future(nap(number, 0)) for number in range(40)]
        await asyncio.sleep(0.4)
        await asyncio.gather(*low, *(nap(number, 9) for number in range(100, 105)))
        return ended

    ended = asyncio.run(call())
    high = [place for place, number in enumerate(ended) if number >= 100]
    before = len([number for number in ended[: high[0]] if number < 40])
    assert high[-1] - before < 15, ended  # and not behind the thirty that waited


def test_a_caller_hears_how_far_its_job_is(run: Run, rabbitmq: BrokerPlace, app: App) -> None:
    work(run, rabbitmq)

    async def call() -> list[tuple[Status, float]]:
        job = calls_app.walks.options(id="walk").request(4)
        waiting = asyncio.ensure_future(job)
        await asyncio.sleep(0.3)
        seen = [(info.status, info.progress) async for info in app.jobs.handle("walk").events()]
        assert (await waiting).value == 4
        return seen

    seen = asyncio.run(call())
    assert (Status.STARTED, 0.5) in seen
    assert seen[-1][0] is Status.FINISHED


def test_what_is_sent_is_retried_and_asks_for_no_store(
    run: Run, rabbitmq: BrokerPlace, app: App
) -> None:
    work(run, rabbitmq)
    assert calls_app.flaky.options(wait=20).call_sync(2) == 3
    job = calls_app.add.send_sync(1, 2)
    with pytest.raises(NotSupported, match=f"the state of job {job.id} needs a store of jobs"):
        job.status_sync()
    with pytest.raises(NotSupported, match="to stop job"):
        job.cancel_sync(stop=True)
    assert rabbitmq.dead("add") == []


def test_replies_survive_the_lost_connection_of_their_caller(
    run: Run, rabbitmq: BrokerPlace, app: App
) -> None:
    work(run, rabbitmq)
    assert calls_app.add.call_sync(1, 1) == 2
    found: list[str] = []
    thread = threading.Thread(target=lambda: found.append(calls_app.sleeps.call_sync(2)))
    thread.start()
    time.sleep(0.5)
    cut = rabbitmq.broker.evaluate(
        '[rabbit_networking:close_connection(P, "cut") || P <- rabbit_networking:connections(),'
        " {client_properties, L} <- rabbit_reader:info(P, [client_properties]),"
        ' {<<"connection_name">>, _, N} <- L, binary:match(N, <<"(replies)">>) =/= nomatch].'
    )
    assert "ok" in cut
    thread.join(20)
    assert found == ["awake"]
    assert len(reply_queues(rabbitmq)) == 1
    app.close()
    until_is([], lambda: reply_queues(rabbitmq))


def test_a_reply_queue_that_is_deleted_ends_its_calls_at_once(
    run: Run, rabbitmq: BrokerPlace, app: App
) -> None:
    work(run, rabbitmq)
    assert calls_app.add.call_sync(1, 1) == 2
    (queue,) = reply_queues(rabbitmq)
    found: list[BaseException] = []

    def call() -> None:
        with pytest.raises(ReplyLost) as lost:
            calls_app.sleeps.call_sync(5)
        found.append(lost.value)

    thread = threading.Thread(target=call)
    thread.start()
    time.sleep(0.5)
    rabbitmq.delete(queue)
    thread.join(4)
    assert found
    assert calls_app.add.call_sync(2, 2) == 4


def test_a_killed_caller_is_noticed_and_counted(
    run: Run, rabbitmq: BrokerPlace, app: App, tmp_path: Path
) -> None:
    worker = work(run, rabbitmq)
    code = (
        "import asyncio, sys\n"
        "from tests.services import calls_app as c\n"
        "async def main():\n"
        "    calls = [asyncio.ensure_future(c.sleeps.call(3)) for _ in range(8)]\n"
        "    while any(call.done() for call in calls) or not c.app.jobs.client()._calls: \n"
        "        await asyncio.sleep(.05)\n"
        "    await c.add.call(1, 1)\n"
        "    print('out', flush=True)\n"
        "    await asyncio.gather(*calls)\n"
        "asyncio.run(main())\n"
    )
    with (tmp_path / "caller").open("w+") as out:
        caller = subprocess.Popen(
            [sys.executable, "-c", code], cwd=REPOSITORY, stdout=out, stderr=out,
            env={**worker.environment(tmp_path), "CALLBOARD_CONNECTION": rabbitmq.url},
        )  # fmt: skip
        until(lambda: "out" in (tmp_path / "caller").read_text(), 20)
        caller.kill()
        caller.wait()
    (queue,) = reply_queues(rabbitmq)
    rabbitmq.delete(queue)  # as the broker does after 60 s
    until(lambda: worker.status()["totals"]["replies_lost"] == 8, 30)
    until_is(0, lambda: worker.status()["totals"]["in_flight"])


def ask(rabbitmq: BrokerPlace, queue: str, body: bytes, **given: Any) -> tuple[Any, bytes]:
    """A stranger's call: nothing but pika."""
    with rabbitmq.admin() as admin:
        channel = admin.connection.channel()
        mine = str(channel.queue_declare("", exclusive=True).method.queue)
        id = uuid.uuid4().hex
        properties = pika.BasicProperties(reply_to=mine, correlation_id=id, **given)
        channel.basic_publish("", queue, body, properties)
        for _, found, reply in channel.consume(mine, auto_ack=True, inactivity_timeout=10):
            assert found is not None, "no reply"
            assert reply is not None
            assert found.correlation_id == id
            return found, reply
    raise AssertionError


def test_any_client_calls_with_a_body_and_a_reply_to(
    run: Run, rabbitmq: BrokerPlace, app: App
) -> None:
    work(run, rabbitmq)
    found, reply = ask(rabbitmq, "add", b'{"a": 1, "b": 2}')
    assert (found.type, reply) == ("result", b"3")
    assert ask(rabbitmq, "add", b"[1, 2]")[1] == b"3"
    found, reply = ask(rabbitmq, "div", b"[1, 0]")
    assert found.type == "error"
    assert json.loads(reply)["error"]["type"] == "ZeroDivisionError"
    found, reply = ask(rabbitmq, "add", b"[1]", headers={"x-callboard-task": "unheard"})
    assert json.loads(reply)["error"]["type"] == "UnknownTask"


def test_celery_producers_get_results_as_their_backend_wants_them(
    run: Run, rabbitmq: BrokerPlace, app: App
) -> None:
    work(run, rabbitmq)
    id = "c0ffee"
    headers = {"task": "add", "id": id, "lang": "py", "argsrepr": "(1, 2)", "retries": 0}
    given = {"headers": headers, "content_type": "application/json", "content_encoding": "utf-8"}
    embed = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
    _, reply = ask(rabbitmq, "add", json.dumps([[1], {"b": 2}, embed]).encode(), **given)
    assert json.loads(reply) == {
        "task_id": id, "status": "SUCCESS", "result": 3, "traceback": None, "children": [],
    }  # fmt: skip
    chained = {**embed, "chain": [{"task": "mul"}]}
    _, reply = ask(rabbitmq, "add", json.dumps([[1, 2], {}, chained]).encode(), **given)
    failed = json.loads(reply)
    assert (failed["status"], failed["result"]["exc_type"]) == ("FAILURE", "InvalidMessage")
    assert "chain is not supported" in failed["result"]["exc_message"][0]


@pytest.mark.parametrize(
    ("body", "given", "told"),
    [
        (b"\x80\x04\x95\x10", {"content_type": "application/x-python-serialize"}, "not JSON"),
        (compressed(b" " * (20 << 20)), {"content_encoding": "gzip"}, "more than 16,777,216 bytes"),
        (b"no gzip", {"content_encoding": "gzip"}, "the body is not"),
        (b'{"a": NaN, "b": 1}', {}, "argument"),
        (b"[" * 5000 + b"]" * 5000, {}, ""),
    ],
    ids=["pickle", "bomb", "no gzip", "NaN", "deep"],
)
def test_what_is_no_call_is_refused_in_a_line_and_kept(
    run: Run, rabbitmq: BrokerPlace, app: App, body: bytes, given: dict[str, Any], told: str
) -> None:
    worker = work(run, rabbitmq)
    _, reply = ask(rabbitmq, "add", body, **given)
    error = json.loads(reply)["error"]
    assert error["type"] == "InvalidMessage"
    assert told in error["message"]
    until_is(1, lambda: len(rabbitmq.dead("add")))
    assert calls_app.add.call_sync(1, 1) == 2
    assert "Traceback" not in worker.output


def test_the_command_line_calls_over_a_broker(run: Run, rabbitmq: BrokerPlace, app: App) -> None:
    work(run, rabbitmq)

    def callboard(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "actors", *arguments, "--connection", rabbitmq.url],
            cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    done = callboard("call", "add", '{"a": 2, "b": 3}')
    assert (done.returncode, done.stdout) == (0, "5\n"), done.stderr
    failed = callboard("call", "div", "[1, 0]")
    assert (failed.returncode, failed.stderr) == (
        1, "callboard: ZeroDivisionError: float division by zero\n",
    )  # fmt: skip
    listed = callboard("jobs", "list")
    assert listed.returncode == 78
    assert "is of kind amqp; this works on spool" in listed.stderr
    assert reply_queues(rabbitmq) == []


def test_calls_that_are_out_when_the_broker_restarts_come_to_their_results(
    run: Run, own_rabbitmq: BrokerPlace, app: App
) -> None:
    work(run, own_rabbitmq)
    assert calls_app.add.call_sync(0, 0) == 0
    found: dict[int, object] = {}

    async def call() -> None:
        async def one(number: int) -> None:
            await asyncio.sleep(number * 0.02)
            try:
                found[number] = await calls_app.add.options(wait=30).call(number, 1)
            except (ReplyLost, TaskTimeout, TaskExpired) as error:  # its reply was in the broker
                found[number] = error

        await asyncio.gather(*(one(number) for number in range(200)))

    thread = threading.Thread(target=lambda: asyncio.run(call()))
    thread.start()
    time.sleep(1)
    own_rabbitmq.broker.kill()
    own_rabbitmq.broker.start()
    thread.join(90)
    assert len(found) == 200
    results = [number for number, value in found.items() if value == number + 1]
    assert len(results) >= 150
