"""Puts messages one at a time; the peers with a format of their own fill their queues with it.

Only the standard library.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from benchmarks.setting import Setting


def fill(setting: Setting, put: Callable[[bytes], object], count: int) -> float:
    """Put so many messages, as many a second as the setting says, and return how many it were.

    Where the setting has a rate, a body's number is the time at which it was sent.
    """
    began = time.monotonic()
    for number in range(count):
        if setting.rate:
            time.sleep(max(0.0, began + number / setting.rate - time.monotonic()))
            put(setting.body(time.monotonic_ns()))
        else:
            put(setting.body(number))
    return count / (time.monotonic() - began)


def main(setting: Setting, put: Callable[[bytes], object]) -> None:
    """For a program that is called with the number of messages; prints messages a second."""
    sys.stdout.write(f"{fill(setting, put, int(sys.argv[1]))}\n")
