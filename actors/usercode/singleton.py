"""One of all replicas: who holds an exclusive queue of a broker, or the lock of a file.

Either is let go of by the death of its holder, whatever it dies of.
"""

from __future__ import annotations

from pathlib import Path
from typing import cast

from actors.api.connector import connectors
from actors.connectors.spool.lock import FileLock
from actors.plan.plan import Plan
from actors.usercode.timers import Lock


def open_lock(plan: Plan, name: str) -> Lock:
    """The lock of a timer: of the app's first broker, or else of its first spool."""
    name = f"callboard.singleton.{plan.singleton}.{name}"
    places = {kind: settings for _, kind, settings in reversed(plan.outlets)}
    for connector in connectors():
        if connector.lock and connector.kind in places:
            return cast(Lock, connector.load("lock")(places[connector.kind], name))
    return FileLock(Path(plan.state_dir) / "spool.db", name)
