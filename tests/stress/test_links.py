"""What a network does to the connection to the broker. Each row: cause, what holds, bound.

In every row nothing is lost, no duplicate is untold, and the system is ready again within
the bound after the cause ends. Heartbeats are 10 s, unacknowledged bytes live for 15 s.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from actors import Publisher
from actors.errors import PublishError
from tests.services.conftest import Run
from tests.services.worker import BrokerPlace, Worker, numbers, put, until
from tests.stress.checker import Total, total_queue
from tests.stress.proxy import Mode, Proxy

MESSAGES = 2000


class Rig:
    """A worker that reaches its broker through a proxy, under load."""

    def __init__(self, worker: Worker, place: BrokerPlace) -> None:
        self.worker = worker
        self.place = place
        worker.ready()
        self.more(0)

    def more(self, start: int) -> None:
        put(self.place, "work", *numbers(range(start, start + MESSAGES)))

    def handled(self, count: int, seconds: float) -> None:
        """Wait until so many different messages were handled."""
        until(lambda: len(self.worker.times()) >= count, seconds, f"{count} handled")

    def account(self, count: int) -> Total:
        """Drain, end, and account."""
        until(lambda: self.place.ready("work") == 0, 30.0, "the queue is empty")
        self.worker.launcher.terminate()
        assert self.worker.wait() == 0
        assert self.place.ready("work") == 0
        return total_queue(range(count), range(count), self.worker.handled())


@pytest.fixture
def rig(run: Run, rabbitmq: BrokerPlace, proxy: Proxy) -> Rig:
    worker = run("plain", "--connection", proxy.instead_of(rabbitmq.url), PACE="0.01")
    return Rig(worker, rabbitmq)


def test_after_a_reset_the_stream_goes_on_within_35_seconds(rig: Rig, proxy: Proxy) -> None:
    rig.handled(MESSAGES // 4, 20.0)
    proxy.reset()
    rig.more(MESSAGES)
    rig.handled(2 * MESSAGES, 35.0 + 20.0)
    total = rig.account(2 * MESSAGES)
    assert (total.lost, total.unexpected, total.untold) == (0, 0, 0), total


@pytest.mark.parametrize("mode", [Mode.SWALLOW_UP, Mode.SWALLOW])
def test_a_link_that_is_half_open_is_noticed_within_two_heartbeats(
    rig: Rig, proxy: Proxy, mode: Mode
) -> None:
    rig.handled(MESSAGES // 4, 20.0)
    proxy.mode = mode
    until(lambda: not rig.worker.status().get("ready"), 2 * (10 + 5) + 5.0, "not ready")
    proxy.mode = Mode.PASS
    rig.more(MESSAGES)
    rig.handled(2 * MESSAGES, 35.0 + 20.0)
    total = rig.account(2 * MESSAGES)
    assert (total.lost, total.unexpected, total.untold) == (0, 0, 0), total


@pytest.mark.parametrize("mode", [Mode.DELAY, Mode.DRIBBLE])
def test_a_slow_link_is_no_dead_link(rig: Rig, proxy: Proxy, mode: Mode) -> None:
    proxy.mode = mode
    rig.handled(MESSAGES, 60.0)
    total = rig.account(MESSAGES)
    assert (total.lost, total.duplicated) == (0, 0), total
    assert "lost" not in rig.worker.output


def test_a_publisher_waits_no_longer_than_it_was_told_to(
    rabbitmq: BrokerPlace, proxy: Proxy
) -> None:
    with Publisher(proxy.instead_of(rabbitmq.url)) as publisher:
        publisher.put("work", {"n": 1})
        proxy.mode = Mode.SWALLOW
        with pytest.raises(PublishError, match="no answer in time"):
            publisher.put("work", {"n": 2}, timeout=1.0)


def test_a_copy_whose_confirm_got_lost_is_made_again_with_the_same_id(
    run: Run, rabbitmq: BrokerPlace, proxy: Proxy, tmp_path: Path
) -> None:
    worker = run("plain", "--connection", proxy.instead_of(rabbitmq.url))
    put(rabbitmq, "work", {"n": 0, "do": "dead letter"})
    until(lambda: len(rabbitmq.dead("work")) == 1)  # copies have their connection
    gate = tmp_path / "record.gate"
    gate.touch()
    put(rabbitmq, "work", {"n": 1, "do": "wait"}, {"n": 2, "do": "dead letter"})
    until(lambda: len(worker.times()) == 3)
    proxy.mode = Mode.SWALLOW_DOWN
    gate.unlink()
    until(lambda: len(rabbitmq.dead("work")) == 2, 20.0, "the copy is stored")
    proxy.mode = Mode.PASS
    proxy.reset()
    until(lambda: worker.status().get("ready") and not worker.totals().get("in_flight"), 35.0)
    until(lambda: rabbitmq.ready("work") == 0, 35.0)
    worker.launcher.terminate()
    assert worker.wait() == 0
    letters = [(letter.body, letter.id) for letter in rabbitmq.dead("work")]
    assert len(letters) == 3
    assert len(set(letters)) == 2
