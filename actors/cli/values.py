"""The values that the command line takes, and the words for those that it refuses."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any

import click

from actors.logic.jobs.store import check_id
from actors.logic.messages.entry import broken_rule


class Whole(click.IntRange):
    """The base's whole number, in the words of people."""

    name = "whole number"


class Number(click.FloatRange):
    """The base's number, in the words of people; "inf" and "nan" are none."""

    name = "number"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a valid number.", param, ctx)
        return number


class Moment(click.ParamType[float]):
    """A point in time, ISO 8601, local where no zone is given; seconds since the epoch."""

    name = "TIME"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        try:
            return datetime.fromisoformat(value).timestamp()
        except ValueError:
            self.fail(f"{value!r} is no time like 2030-01-31T12:00:00", param, ctx)


class JobId(click.ParamType[str]):
    """The id of a job."""

    name = "ID"
    what = "a job's id"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            return check_id(value)
        except ValueError as error:
            self.fail(str(error).replace("a job's id", self.what), param, ctx)


class TaskName(JobId):
    """The name of a task, made of the same characters."""

    name = "TASK"
    what = "a task's name"


class QueueName(click.ParamType[str]):
    """The name of a queue, as brokers and the spool take it."""

    name = "QUEUE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if rule := broken_rule(value):
            self.fail(f"a queue is named by {rule}, not {value!r}", param, ctx)
        return str(value)
