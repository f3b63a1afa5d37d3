"""A message on its way into a queue."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, NamedTuple


class Entry(NamedTuple):
    """What is to be put into a queue."""

    body: bytes
    id: str = ""  #: made where it is empty
    headers: Mapping[str, Any] | None = None
    priority: int = 0  #: 0 to 255, higher first
    delay: float = 0.0  #: seconds

    def check(self) -> None:
        """Raises `TypeError` or `ValueError` where it cannot be stored."""
        if not isinstance(self.body, bytes):
            raise TypeError(f"a serialized message must be bytes, not {type(self.body).__name__}")
        if not 0 <= self.priority <= 255:
            raise ValueError(f"priority must be 0 to 255, not {self.priority}")
        if not (self.delay >= 0.0 and math.isfinite(self.delay)):
            raise ValueError(f"delay must be 0 or more seconds, not {self.delay}")
        if len(self.id.encode()) > 255:
            raise ValueError("message_id must be at most 255 bytes")

    def headers_as_json(self) -> bytes:
        """Empty where there are none; raises `TypeError` or `ValueError` where JSON has none."""
        return json.dumps(dict(self.headers), allow_nan=False).encode() if self.headers else b""
