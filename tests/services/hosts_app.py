"""An app for systems of several hosts."""

from __future__ import annotations

import os

from actors import App, Options
from tests.services.apps import work

app = App(version=os.environ.get("VERSION", "1"))
OPTIONS = {Options.BULK_SIZE: 2, Options.BULK_FLUSH_INTERVAL: 0.1}
app.route(["work"], options=OPTIONS)(work)
app.route(["more"], options={**OPTIONS, Options.REQUIRES: {"gpu": True}})(work)
