"""One profile for all properties: quick, the same each time in CI, and never late."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

settings.register_profile(
    "callboard",
    max_examples=int(os.environ.get("CALLBOARD_TEST_EXAMPLES", "100")),
    deadline=None,
    derandomize=bool(os.environ.get("CI")),
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("callboard")
