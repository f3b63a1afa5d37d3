"""Queues and their channels: when each may have the next, and under which epoch."""

from __future__ import annotations

from random import Random

import pytest

from actors.logic.consuming.sources import REFUSED_RETRY_S, Channel, Pace, Source, Sources
from actors.logic.supervision.restart import HEALTHY

PACE = Pace(1, 1, 10, ordered=False)


def opened(*queues: str) -> Sources:
    """All of one route, each opening its first channel."""
    sources = Sources(Source(queue, "r", PACE) for queue in queues)
    assert [source.queue for source in sources.to_open({"r"}, 0.0)] == list(queues)
    return sources


def test_a_queue_is_opened_once_its_route_has_a_handler() -> None:
    sources = Sources([Source("q", "r", PACE), Source("p", "s", PACE)])
    assert [source.queue for source in sources.to_open({"s"}, 0.0)] == ["p"]
    assert list(sources.to_open({"s"}, 0.0)) == []
    assert sources.due() == [0.0]


def test_epochs_are_never_reused() -> None:
    sources = opened("q", "p")
    epochs = {source.epoch for source in sources}
    for round in range(3):
        for source in sources:
            source.lose("gone", False, 100.0 * round, Random(0))
        for source in sources.to_open({"r"}, 100.0 * round + 99.0):
            assert source.epoch not in epochs
            epochs.add(source.epoch)
    assert epochs == set(range(1, 9))


def test_only_the_live_epoch_of_a_queue_is_heard() -> None:
    sources = opened("q", "p")
    assert sources.living("q", 1) is sources["q"]
    assert sources.living("q", 2) is None
    sources["q"].lose("gone", False, 1.0, Random(0))
    assert sources.living("q", 1) is None


def test_a_lost_queue_waits_for_its_backoff_and_a_missing_one_a_minute() -> None:
    sources = opened("q", "p")
    assert 0.0 < sources["q"].lose("closed", False, 5.0, Random(0)) <= 1.0
    assert sources["p"].lose("no queue 'p'", True, 5.0, Random(0)) == REFUSED_RETRY_S
    assert [s.queue for s in sources.to_open({"r"}, 6.0)] == ["q"]
    assert sources.due() == [65.0]
    assert sources["p"].reason == "no queue 'p'"


def test_a_queue_that_consumed_for_long_begins_its_backoff_anew() -> None:
    source = opened("q")["q"]
    for _ in range(8):
        source.lose("closed", False, 0.0, Random(0))
    source.consumes(100.0)
    assert source.reason == ""
    assert source.lose("closed", False, 100.0 + HEALTHY, Random(0)) <= 1.0


def test_a_queue_that_brought_something_begins_its_backoff_anew() -> None:
    source = opened("q")["q"]
    for _ in range(8):
        source.lose("closed", False, 0.0, Random(0))
    source.consumes(100.0)
    assert source.lose("ended", False, 101.0, Random(0), proven=True) <= 1.0


@pytest.mark.parametrize("channel", Channel)
def test_all_is_said_of_every_queue(channel: Channel) -> None:
    sources = opened("q", "p")
    sources["q"].channel = channel
    assert sources.all(channel) == (channel is Channel.OPENING)
    sources["p"].channel = channel
    assert sources.all(channel)
