"""Requests and replies in the words of other systems' callers."""

from __future__ import annotations

import json
from typing import Any

import pytest

from actors.logic.jobs.dialects import celery_arguments, is_celery, result_of

CELERY = {"task": "add", "id": "c0ffee", "lang": "py"}


def test_a_reply_of_our_own_is_the_bare_result_or_an_error() -> None:
    assert result_of({}, b"3", "") == (b"3", "result")
    assert result_of({}, b"", "") == (b"null", "result")
    body, kind = result_of({}, b'{"type": "ValueError", "message": "no"}', "ValueError")
    assert (json.loads(body), kind) == ({"error": {"type": "ValueError", "message": "no"}}, "error")
    assert json.loads(result_of({}, b"", "Lost")[0]) == {"error": {"type": "Lost"}}


def test_celery_gets_its_results_wrapped() -> None:
    assert is_celery(CELERY)
    assert not is_celery({"task": "add"})
    assert json.loads(result_of(CELERY, b"3", "")[0]) == {
        "task_id": "c0ffee", "status": "SUCCESS", "result": 3, "traceback": None, "children": [],
    }  # fmt: skip
    failure = b'{"type": "shop.Gone", "message": "sold", "traceback": "line 1"}'
    assert json.loads(result_of(CELERY, failure, "shop.Gone")[0]) == {
        "task_id": "c0ffee", "status": "FAILURE", "children": [], "traceback": "line 1",
        "result": {"exc_type": "Gone", "exc_message": ["sold"], "exc_module": "shop"},
    }  # fmt: skip


def test_celery_names_some_arguments_and_lists_others() -> None:
    body = json.dumps([[1], {"b": 2}, {"chain": None}]).encode()
    assert json.loads(celery_arguments(body, ["a", "b"])) == {"a": 1, "b": 2}


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"\x80\x04", "is not JSON: set task_serializer to json"),
        (b"{}", "is not JSON"),
        (json.dumps([[], {}, {"chord": {"task": "sum"}}]).encode(), "chord is not supported"),
        (json.dumps([[1, 2, 3], {}, {}]).encode(), "3 are too many, the task takes 2"),
    ],
)
def test_what_cannot_be_run_is_refused_by_name(body: bytes, told: Any) -> None:
    with pytest.raises(ValueError, match=told):
        celery_arguments(body, ["a", "b"])
