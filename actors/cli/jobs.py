"""`callboard call`, `send`, `jobs`, `pause` and `resume`: tasks called and jobs looked after."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

import click

from actors.api.app import App
from actors.api.message import decode_json
from actors.cli.connections import only
from actors.cli.flags import CONNECTION, flags
from actors.cli.output import confirm, in_json, say, say_json, table
from actors.cli.spool import at, moment, shortened
from actors.cli.values import JobId, Moment, Number, QueueName, TaskName, Whole
from actors.errors import Exit, InvalidMessage, TaskExpired, TaskTimeout
from actors.log import redact
from actors.logic.jobs.job import Status
from actors.logic.jobs.store import JobInfo
from actors.logic.messages.entry import MAX_DELAY
from actors.logic.messages.records import MAX_PRIORITY
from actors.tasks.client import ENDED
from actors.tasks.job import Job
from actors.tasks.jobs import Jobs
from actors.tasks.options import WAIT_S

PAGE = 500  #: jobs that are asked for at once
STATUSES = [status.value for status in Status]

QUEUE = click.option(
    "--queue", type=QueueName(), default=None, metavar="QUEUE", help="Not that of the task's name."
)
PRIORITY = click.option(
    "--priority", type=Whole(0, MAX_PRIORITY), default=0, metavar="N", help="Higher first."
)
ID = click.option(
    "--id", type=JobId(), default=None, metavar="ID",
    help="Of the job: one of this id that is there already is not put again.",
)  # fmt: skip
AS_JSON = click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
SELECTION = flags(
    CONNECTION,
    click.option("--status", type=click.Choice(STATUSES), default=None, help="Only these."),
    click.option("--task", default="", metavar="TASK", help="Only jobs of this task."),
    click.option("--queue", type=QueueName(), default=None, metavar="QUEUE", help="Only of this."),
    click.option("--before", type=Moment(), default=None, metavar="TIME",
                 help="Only those that were put before; local time."),
)  # fmt: skip


class Arguments(click.ParamType[Any]):
    """The arguments of a call, as JSON."""

    name = "JSON"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return decode_json(value.encode())
        except InvalidMessage as error:
            self.fail(f"{error}; give an object of arguments by name, or a list", param, ctx)


@click.command(short_help="Call a task and print its result.")
@click.argument("task", type=TaskName())
@click.argument("arguments", type=Arguments(), default="{}", metavar="[JSON]")
@CONNECTION
@QUEUE
@click.option("--wait", type=Number(0.001, MAX_DELAY), default=WAIT_S, show_default=True,
              metavar="SECONDS", help="For the result.")  # fmt: skip
@click.option("--timeout", type=Number(0.001, MAX_DELAY), default=None, metavar="SECONDS",
              help="Of the run, in the place of the task's.")  # fmt: skip
@PRIORITY
@ID
def call(
    task: str, arguments: Any, connection: tuple[str, ...], queue: str | None, **options: Any
) -> int:
    """Call TASK with arguments: a JSON object, a list, or one value. Print its result as JSON.

    \b
    Exits  0 the result is printed        1 the task failed, was stopped or canceled
          75 there is none within --wait  69 the connection cannot be reached
    """
    with closing(_callers(connection)) as jobs:
        try:
            reply = jobs.call_sync(task, arguments, queue=queue or "", **_given(options))
        except (TaskTimeout, TaskExpired) as error:
            say(f"callboard: {redact(str(error))}", err=True)
            return Exit.WORK_LEFT
    say(json.dumps(reply, ensure_ascii=False))
    return Exit.CLEAN


@click.command(short_help="Put a job of a task and print its id.")
@click.argument("task", type=TaskName())
@click.argument("arguments", type=Arguments(), default="{}", metavar="[JSON]")
@CONNECTION
@QUEUE
@click.option("--delay", type=Number(0, MAX_DELAY), default=0.0, metavar="SECONDS",
              help="Not to be run before.")  # fmt: skip
@click.option("--at", "at_time", type=Moment(), default=None, metavar="TIME",
              help="The same as a time; local.")  # fmt: skip
@click.option("--expires", type=Number(0.001, MAX_DELAY), default=None, metavar="SECONDS",
              help="It has to begin within.")  # fmt: skip
@PRIORITY
@ID
def send(
    task: str,
    arguments: Any,
    connection: tuple[str, ...],
    queue: str | None,
    at_time: float | None,
    **options: Any,
) -> None:
    """Put a job of TASK with the arguments of a JSON object, a list, or one value; print its id."""
    given = _given(options)
    if at_time is not None:
        given["at"] = datetime.fromtimestamp(at_time, UTC)
    with closing(_callers(connection)) as jobs:
        say(jobs.send_sync(task, arguments, queue=queue or "", **given).id)


@click.group()
def jobs() -> None:
    """Look at jobs, cancel them, run them again or delete them."""


@jobs.command("list")
@SELECTION
@click.option("--limit", type=Whole(1), default=100, show_default=True, metavar="N",
              help="At most so many, oldest first.")  # fmt: skip
@AS_JSON
def list_jobs(connection: tuple[str, ...], limit: int, as_json: bool, **selection: Any) -> None:
    """Jobs in the order in which they were put."""
    found = []
    for job in _selected(_jobs(connection), selection):
        found.append(job)
        if len(found) == limit:
            break
    if as_json:
        for job in found:
            say_json(_shown(job))
        return
    rows = [
        (
            job.id, job.task, job.status.value, moment(job.created), moment(job.ended),
            str(job.attempts), job.error,
        )
        for job in found
    ]  # fmt: skip
    heads = ("id", "task", "status", "created", "ended", "attempts", "error")
    say(*table(heads, rows, width=160) or ["no such jobs"])


@jobs.command()
@click.argument("id", type=JobId())
@CONNECTION
@AS_JSON
def show(id: str, connection: tuple[str, ...], as_json: bool) -> int:
    """The job ID with its arguments, its runs and its outcome."""
    job = _jobs(connection).get_sync(id)
    if job is None:
        return _none(id)
    if as_json:
        say_json(_shown(job))
        return Exit.CLEAN
    for name, value in _shown(job).items():
        if name == "outcome" and isinstance(value, dict) and "traceback" in value:
            say(f"{value['type']}: {shortened(redact(str(value['message'])), 10_000)}")
            say(*redact(str(value["traceback"])).split("\n"))
        elif value not in (None, "", [], {}):
            text = value if isinstance(value, str) else in_json(value)
            say(f"{name + ':':<13} {shortened(text, 100_000)}")
    return Exit.CLEAN


@jobs.command()
@SELECTION
@AS_JSON
def count(connection: tuple[str, ...], as_json: bool, **selection: Any) -> None:
    """The number of jobs by status."""
    if selection["task"] or selection["before"] is not None:
        found = [job.status for job in _selected(_jobs(connection), selection)]
        counted = {status: found.count(status) for status in Status}
    else:
        counted = dict(_jobs(connection).count_sync(selection["queue"] or ""))
    wanted = [Status(selection["status"])] if selection["status"] else list(Status)
    numbers = {status.value: counted.get(status, 0) for status in wanted}
    if as_json:
        say_json(numbers)
    else:
        say(*table(("status", "jobs"), [*numbers.items()]))


@jobs.command()
@click.argument("ids", nargs=-1, required=True, type=JobId(), metavar="ID…")
@CONNECTION
def cancel(ids: Sequence[str], connection: tuple[str, ...]) -> int:
    """Withdraw jobs that have not begun; what runs goes on."""
    return _cancel(ids, connection, stop=False)


@jobs.command()
@click.argument("ids", nargs=-1, required=True, type=JobId(), metavar="ID…")
@CONNECTION
def stop(ids: Sequence[str], connection: tuple[str, ...]) -> int:
    """Withdraw jobs, and end those that run."""
    return _cancel(ids, connection, stop=True)


def _cancel(ids: Sequence[str], connection: tuple[str, ...], *, stop: bool) -> int:
    jobs = _jobs(connection)
    code = int(Exit.CLEAN)
    for id in ids:
        if jobs.get_sync(id) is None:
            code = _none(id)
        else:
            say(f"{id} {jobs.handle(id).cancel_sync(stop=stop).value}")
    return code


@jobs.command(short_help="Run jobs again, their attempts from 0.")
@click.argument("ids", nargs=-1, required=True, type=JobId(), metavar="ID…")
@CONNECTION
def retry(ids: Sequence[str], connection: tuple[str, ...]) -> int:
    """Run jobs again that failed, were stopped or canceled, their attempts from 0."""
    jobs = _jobs(connection)
    return _each(
        ids, lambda job: job.retry_sync(), "queued", "not failed, stopped or canceled", jobs
    )


@jobs.command()
@click.argument("ids", nargs=-1, required=True, type=JobId(), metavar="ID…")
@CONNECTION
def delete(ids: Sequence[str], connection: tuple[str, ...]) -> int:
    """Forget jobs that have ended."""
    jobs = _jobs(connection)
    return _each(ids, lambda job: job.delete_sync(), "deleted", "not ended: cancel it first", jobs)


@jobs.command(short_help="Forget jobs that have ended, all or some.")
@SELECTION
@click.option("--yes", is_flag=True, help="Do not ask.")
def purge(connection: tuple[str, ...], yes: bool, **selection: Any) -> None:
    """Forget jobs that have ended: all of them, or those that are chosen."""
    jobs = _jobs(connection)
    chosen = [job.id for job in _selected(jobs, selection) if job.status in ENDED]
    if not yes:
        confirm(f"Delete {_count(len(chosen))} that have ended for good?")
    deleted = sum(jobs.handle(id).delete_sync() for id in chosen)
    say(f"{_count(deleted)} deleted")


@jobs.command(short_help="Wait for the end of a job, and print its result.")
@click.argument("id", type=JobId())
@CONNECTION
@click.option("--timeout", type=Number(0, MAX_DELAY), default=WAIT_S, show_default=True,
              metavar="SECONDS", help="For its end.")  # fmt: skip
def wait(id: str, connection: tuple[str, ...], timeout: float) -> int:
    """Wait for the end of the job ID, and print its result as JSON; exits as `call` does."""
    jobs = _jobs(connection)
    if jobs.get_sync(id) is None:
        return _none(id)
    try:
        result = jobs.handle(id).result_sync(timeout)
    except (TaskTimeout, TaskExpired) as error:
        say(f"callboard: {redact(str(error))}", err=True)
        return Exit.WORK_LEFT
    say(json.dumps(result, ensure_ascii=False))
    return Exit.CLEAN


@click.command(short_help="Hand out nothing of a queue.")
@click.argument("queue", type=QueueName())
@CONNECTION
@click.option("--for", "seconds", type=Number(0.001, MAX_DELAY), default=None, metavar="SECONDS",
              help="Then it goes on by itself.")  # fmt: skip
def pause(queue: str, connection: tuple[str, ...], seconds: float | None) -> None:
    """Hand out nothing of QUEUE until `resume`; what has begun goes on. It outlives restarts."""
    _jobs(connection).pause_sync(queue, seconds)
    say(f"{queue} is paused{f' for {seconds:g} s' if seconds else ''}")


@click.command(short_help="End the pause of a queue.")
@click.argument("queue", type=QueueName())
@CONNECTION
def resume(queue: str, connection: tuple[str, ...]) -> None:
    """Hand out QUEUE again after `pause`."""
    _jobs(connection).resume_sync(queue)
    say(f"{queue} goes on")


# ── small parts ───────────────────────────────────────────────────────────────


def _jobs(connection: tuple[str, ...]) -> Jobs:
    _, one = only(connection, lambda connector: connector.jobs)
    return App(connections=[one]).jobs


def _callers(connection: tuple[str, ...]) -> Jobs:
    _, one = only(connection, lambda connector: connector.takes_jobs)
    return App(connections=[one]).jobs


def _given(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _selected(jobs: Jobs, selection: dict[str, Any]) -> Iterator[JobInfo]:
    """All jobs that are chosen, a page after the other."""
    after = ""
    while True:
        page = jobs.list_sync(
            status=selection["status"],
            task=selection["task"],
            queue=selection["queue"] or "",
            before=selection["before"],
            after=after,
            limit=PAGE,
        )
        yield from page
        if len(page) < PAGE:
            return
        after = page[-1].id


def _each(ids: Sequence[str], act: Any, done: str, otherwise: str, jobs: Jobs) -> int:
    code = int(Exit.CLEAN)
    for id in ids:
        job: Job[Any] = jobs.handle(id)
        if jobs.get_sync(id) is None:
            code = _none(id)
        elif act(job):
            say(f"{id} {done}")
        else:
            say(f"callboard: job {id} is {otherwise}", err=True)
            code = Exit.CRASH
    return code


def _none(id: str) -> int:
    say(f"callboard: there is no job {id}, or its result was kept and is gone", err=True)
    return Exit.CRASH


def _shown(job: JobInfo) -> dict[str, Any]:
    whole = dataclasses.asdict(job)
    for name in ("created", "not_before", "begun", "ended", "expires"):
        time = at(whole[name], UTC)
        whole[name] = time.isoformat() if time else None
    whole["runs"] = [run._asdict() for run in job.runs]
    for name in ("outcome", "arguments"):
        data = whole[name]
        try:
            whole[name] = json.loads(data) if data else None
        except ValueError:
            whole[name] = data.decode("utf-8", "backslashreplace")
    del whole["cancel_requested"]
    return whole


def _count(number: int) -> str:
    return f"{number:,} job{'' if number == 1 else 's'}"
