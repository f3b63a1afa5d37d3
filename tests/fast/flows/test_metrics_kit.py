"""What handlers measure, in the test kit."""

from __future__ import annotations

import pytest

from actors import App, HandlerActor, Message, Options
from actors.metrics import Counter, Gauge
from actors.testing import InMemorySystem

SEEN = Counter("kit_seen", "Seen.", ["kind"])

app = App()


@app.route(["words"], options={Options.BULK_SIZE: 2})
class Words(HandlerActor):
    def on_start(self) -> None:
        self.open = Gauge("kit_open", "Open.")
        self.open.set(4)

    def handle(self, messages: list[Message[str]]) -> None:
        for message in messages:
            SEEN.labels(kind=message.body).inc()


def test_what_a_handler_measures_can_be_read_by_its_name_and_labels() -> None:
    for _ in range(2):  # each system begins anew
        with InMemorySystem(app) as system:
            system.deliver("words", ["a", "a", "b", "a"])
            assert system.metric("kit_seen_total", kind="a") == 3
            assert system.metric("kit_seen_total", kind="c") == 0
            assert system.metric("kit_open") == 4
            assert system.metric("callboard_bulk_size_count", route="words") == 2


def test_time_is_virtual_in_the_durations_of_handlers() -> None:
    import asyncio

    sleepy = App()

    @sleepy.route(["words"])
    async def work(messages: list[Message[str]]) -> None:
        await asyncio.sleep(7)

    with InMemorySystem(sleepy) as system:
        system.deliver("words", ["a"])
        system.advance(10)
        assert system.metric("callboard_handler_duration_seconds_sum", route="words") == 7


def test_a_metric_that_nobody_declared_is_named() -> None:
    with (
        InMemorySystem(app) as system,
        pytest.raises(ValueError, match=r"no metric 'kit_sene'; there are: .*kit_seen"),
    ):
        system.metric("kit_sene_total")
    with InMemorySystem(app) as system, pytest.raises(ValueError, match=r"no metric 'kit'; there"):
        system.metric("kit")


def test_after_the_block_nothing_is_kept() -> None:
    with InMemorySystem(app) as system:
        pass
    SEEN.labels(kind="a").inc()
    assert system.metric("kit_seen_total", kind="a") == 0
