"""A WSGI service whose workers fork after it has called."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

from tests.services.calls_app import add

BEFORE = add.call_sync(20, 22)  # opens the connection, in the parent


def web(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{BEFORE} {add.call_sync(1, 2)} {os.getpid()}".encode()]
