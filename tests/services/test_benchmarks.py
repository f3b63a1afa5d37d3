"""The benchmarks' plumbing on few messages; how fast they are is nobody's business here."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.places import Places
from benchmarks.runner import running
from benchmarks.scenes import OURS, SCENES
from benchmarks.workers import WORKERS
from tests.support.broker import Broker

MESSAGES = 50
SCENE = {scene.key: scene for scene in SCENES}


@pytest.fixture
def places(broker: Broker, vhost: str) -> Places:
    url = f"amqp://{broker.user}:{broker.password}@{broker.host}:{broker.port}/{vhost}"
    return Places(rabbitmq=url)


@pytest.mark.parametrize("key", ["a-read", "b", "c", "d", "e", "f", "g-10", "h", "i"])
def test_callboard_does_what_a_scene_asks(key: str, places: Places) -> None:
    scene = SCENE[key]
    (name,) = (name for name in scene.workers if name.startswith(OURS))
    setting = replace(scene.setting, messages=MESSAGES, rate=scene.setting.rate * 2)
    with running(places, WORKERS[name], setting) as run:
        figures = scene.measure(run)
    assert all(figures[metric] > 0 for metric in scene.metrics if metric != "cpu")


@pytest.mark.parametrize("name", ["bare socket", "pika, ack each", "pika, ack each 256th"])
def test_what_needs_no_environment_of_its_own_takes_part(name: str, places: Places) -> None:
    scene = SCENE["a-120"]
    with running(places, WORKERS[name], replace(scene.setting, messages=MESSAGES)) as run:
        assert scene.measure(run)["rate"] > 0


def test_a_worker_that_ends_is_an_error_with_its_last_words(places: Places) -> None:
    worker = replace(WORKERS[OURS], program=lambda _: "-c raise(SystemExit('gone'))")
    with running(places, worker, SCENE["a-120"].setting) as run:
        run.start()
        with pytest.raises(TimeoutError, match="gone"):
            run.wait(1)
