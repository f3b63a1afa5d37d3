"""The import paths of async-worker 0.5 to 0.20, for workers that move.

`s/asyncworker/actors.asyncworker/` is the whole move; docs/from-async-worker.md tells what
is better then, and what differs. What was for HTTP is not taken over and says so when used.
"""

from actors.asyncworker.app import App
from actors.asyncworker.options import Actions, DefaultValues, Events, Options, RouteTypes

__all__ = ["Actions", "App", "DefaultValues", "Events", "Options", "RouteTypes"]
