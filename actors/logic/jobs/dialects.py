"""The words of other systems' callers, in which they ask and expect to be answered.

A request of our own, of aio-pika's `JsonRPC` and of crew's client with `serializer="json"` is a
body of JSON and the properties that AMQP has. Celery's protocol 2 wraps the arguments, names the
task in a header, and wants its results wrapped as well:
https://docs.celeryq.dev/en/stable/internals/protocol.html
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

#: The header by which a caller says that it understands more than a reply: `begun`, `progress`, and
#: a reply that is compressed.
CALLER = "x-callboard-caller"

#: What Celery's canvas has beside the arguments: work for its own workers only.
_CANVAS = ("callbacks", "errbacks", "chain", "chord")


def is_celery(headers: Mapping[str, Any]) -> bool:
    """Whether a message is a task of Celery's protocol 2."""
    return all(isinstance(headers.get(name), str) for name in ("task", "id", "lang"))


def celery_arguments(body: bytes, names: Sequence[str]) -> bytes:
    """The arguments by name, as JSON. Raises ValueError for what is no JSON, and for canvas."""
    try:
        args, kwargs, embed = json.loads(body)
        given = dict(zip(names, args, strict=False)) | kwargs
        canvas = [name for name in _CANVAS if embed.get(name)]
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise ValueError(
            "a task of Celery's whose body is not JSON: set task_serializer to json"
        ) from None
    if canvas:
        raise ValueError(f"Celery's {canvas[0]} is not supported: call each task by itself")
    if len(args) > len(names):
        raise ValueError(f"arguments: {len(args)} are too many, the task takes {len(names)}")
    return json.dumps(given).encode()


def result_of(headers: Mapping[str, Any], outcome: bytes, error: str) -> tuple[bytes, str]:
    """The body of a reply, and its type: "result", "error", or none for Celery."""
    if is_celery(headers):
        return _celery_result(str(headers["id"]), outcome, error), ""
    if not error:
        return outcome or b"null", "result"
    return b'{"error": %s}' % (outcome or json.dumps({"type": error}).encode()), "error"


def _celery_result(id: str, outcome: bytes, error: str) -> bytes:
    result, trace = json.loads(outcome or b"null"), None
    if error:
        told = result if isinstance(result, dict) else {}
        trace = told.get("traceback") or None
        result = {
            "exc_type": error.rpartition(".")[2],
            "exc_message": [told.get("message", "")],
            "exc_module": error.rpartition(".")[0] or "builtins",
        }
    status = "FAILURE" if error else "SUCCESS"
    return json.dumps(
        {"task_id": id, "status": status, "result": result, "traceback": trace, "children": []}
    ).encode()
