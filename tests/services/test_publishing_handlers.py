"""Handlers that publish, in several processes of a real system."""

from __future__ import annotations

from collections import Counter

from tests.services.conftest import Run
from tests.services.worker import Place, numbers, put, until


def test_what_handlers_put_goes_to_the_connection_that_the_command_line_names(
    place: Place, run: Run
) -> None:
    for queue in ("next", "last"):
        place.declare(queue)
    put(place, "work", *numbers(range(100)))
    worker = run("tests.services.publishing_app:app", "--connection", f"main={place.url}")
    worker.ready()
    until(lambda: place.ready("last") == 100)
    worker.launcher.terminate()
    assert worker.wait() == 0
    assert worker.times() == Counter(range(100))
    assert len({line["pid"] for line in worker.handled()}) == 2
    assert (place.ready("work"), place.ready("next")) == (0, 0)
    assert "Traceback" not in worker.output
