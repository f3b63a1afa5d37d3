"""What becomes of messages in a whole system, and of those whose handlers die or hang."""

from __future__ import annotations

import signal
from collections import Counter

import pytest

from actors import Publisher
from tests.services.conftest import Run
from tests.services.worker import BrokerPlace, Place, numbers, put, until_is


def test_a_rejected_message_is_dropped(place: Place, run: Run) -> None:
    put(place, "work", *numbers(range(5)), {"n": 5, "do": "reject"})
    worker = run("plain", "--connection", place.url)
    until_is({"received": 6, "acked": 5, "rejected": 1}, worker.totals)
    worker.launcher.terminate()
    assert worker.wait() == 0
    assert worker.times() == Counter(range(6))
    assert place.ready("work") == 0
    assert place.dead("work") == []


def test_a_rejected_message_goes_to_the_dead_letter_exchange(
    rabbitmq: BrokerPlace, run: Run
) -> None:
    rabbitmq.declare("refused")
    rabbitmq.declare(
        "more", **{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "refused"}
    )
    for queue in ("async", "class"):
        rabbitmq.declare(queue)
    put(rabbitmq, "more", *numbers(range(5)), {"n": 5, "do": "reject"})
    assert run("every", "--connection", rabbitmq.url, "--burst").wait() == 0
    assert (rabbitmq.ready("more"), rabbitmq.ready("refused")) == (0, 1)


def test_a_dead_letter_says_why_and_its_original_is_gone(place: Place, run: Run) -> None:
    put(place, "work", *numbers(range(5)), {"n": 5, "do": "dead letter"})
    worker = run("plain", "--connection", place.url, "--burst")
    assert worker.wait() == 0
    assert place.ready("work") == 0
    (letter,) = place.dead("work")
    assert (letter.body, letter.reason, letter.route) == (
        b'{"n": 5, "do": "dead letter"}', "no good", "work",
    )  # fmt: skip
    assert letter.attempts == 1
    assert letter.died


def test_a_requeued_message_comes_back_marked(place: Place, run: Run) -> None:
    put(place, "work", *numbers(range(5)), {"n": 5, "do": "requeue once"})
    worker = run("plain", "--connection", place.url, "--burst")
    assert worker.wait() == 0
    first, second = (line for line in worker.handled() if line["n"] == 5)
    assert (first["attempts"], first["redelivered"]) == (0, False)
    assert (second["attempts"], second["redelivered"]) == (1, True)
    assert worker.times() == Counter([*range(6), 5])
    assert place.ready("work") == 0


def test_retries_are_counted_and_the_last_is_made_alone(place: Place, run: Run) -> None:
    put(place, "work", {"n": 0, "do": "raise"}, {"n": 1, "do": "raise once"}, {"n": 2})
    worker = run("fragile", "--connection", place.url)
    until_is((2, 1), lambda: (worker.totals().get("acked"), worker.totals().get("dead")))
    worker.launcher.terminate()
    assert worker.wait() == 0
    guilty = [line for line in worker.handled() if line["n"] == 0]
    assert [line["attempts"] for line in guilty] == [0, 1, 2]
    assert [line["redelivered"] for line in guilty] == [False, True, True]
    assert guilty[2]["bulk"] == 1
    (letter,) = place.dead("work")
    assert (letter.error, letter.reason, letter.attempts) == ("ValueError", "number 0", 3)
    assert place.ready("work") == 0


def test_no_publisher_spends_retries_by_a_header(rabbitmq: BrokerPlace, run: Run) -> None:
    counts = (1, 19, 2**63 - 1, -1, "19")
    names = ("x-callboard-attempts", "x-delivery-count", "x-acquired-count")
    with Publisher(rabbitmq.url) as publisher:
        for n, count in enumerate(counts):
            headers = {"x-callboard-seal": "0" * 32, **dict.fromkeys(names, count)}
            publisher.put("work", {"n": n, "do": "raise"}, headers=headers)
    worker = run("fragile", "--connection", rabbitmq.url)
    until_is(len(counts), lambda: worker.totals().get("dead"))
    worker.launcher.terminate()
    assert worker.wait() == 0
    for n in range(len(counts)):
        assert [line["attempts"] for line in worker.handled() if line["n"] == n] == [0, 1, 2]
    assert {letter.attempts for letter in rabbitmq.dead("work")} == {3}


@pytest.mark.parametrize("headers", [{"x-callboard-attempts": 2**63 - 1}, {"h": "x" * 130_900}])
def test_what_cannot_be_copied_whole_stops_neither_its_neighbours_nor_a_drain(
    rabbitmq: BrokerPlace, run: Run, headers: dict[str, object]
) -> None:
    with rabbitmq.admin() as admin:
        for n in range(20):
            body = b'{"n": %d, "do": "raise"}' % n
            admin.publish("work", body, headers=headers if n % 2 else None)
    worker = run("fragile", "--connection", rabbitmq.url, "--prefetch", "4")
    until_is(20, lambda: worker.totals().get("dead"), 60.0)
    worker.launcher.terminate()
    assert worker.wait() == 0
    assert [letter.attempts for letter in rabbitmq.dead("work")] == [3] * 20
    assert rabbitmq.ready("work") == 0


@pytest.mark.parametrize("end", ["crash", "os._exit"])
def test_a_message_that_kills_its_process_is_dead_lettered_alone(
    place: Place, run: Run, end: str
) -> None:
    put(place, "work", *numbers(range(20)), {"n": 20, "do": end}, *numbers(range(21, 40)))
    worker = run("fragile", "--connection", place.url, "--burst")
    assert worker.wait() == 0
    (letter,) = place.dead("work")
    assert letter.body.startswith(b'{"n": 20,')
    assert letter.error.endswith("HandlerCrashed")
    assert worker.times().keys() == set(range(40))
    assert place.ready("work") == 0


def test_a_handler_that_calls_exit_or_has_no_memory_left_has_raised(place: Place, run: Run) -> None:
    put(place, "work", *numbers(range(6)), {"n": 6, "do": "sys.exit"}, {"n": 7, "do": "memory"})
    worker = run("fragile", "--connection", place.url)
    until_is((6, 1, 1), lambda: tuple(map(worker.totals().get, ("acked", "dead", "rejected"))))
    assert all(actor["restarts"] == 0 for actor in worker.status()["actors"])
    worker.launcher.terminate()
    assert worker.wait() == 0
    (letter,) = place.dead("work")
    assert (letter.body, letter.error) == (b'{"n": 6, "do": "sys.exit"}', "SystemExit")
    assert place.ready("work") == 0


def test_a_process_that_a_handler_forks_ends_by_sigterm(spool: Place, run: Run) -> None:
    put(spool, "work", {"n": 0, "do": "fork"})
    worker = run("plain", "--connection", spool.url, "--burst")
    assert worker.wait() == 0
    assert worker.handled()[-1]["exitcode"] == -signal.SIGTERM


def test_an_endless_loop_is_killed_and_dead_lettered_alone(place: Place, run: Run) -> None:
    put(place, "work", {"n": 0, "do": "loop"}, *numbers(range(1, 9)))
    worker = run("fragile", "--connection", place.url)
    until_is((8, 1), lambda: (worker.totals().get("acked"), worker.totals().get("dead")), 30)
    worker.launcher.terminate()
    assert worker.wait() == 0
    (letter,) = place.dead("work")
    assert (letter.body, letter.error) == (b'{"n": 0, "do": "loop"}', "TimeoutError")
    assert worker.times().keys() == set(range(9))
    assert place.ready("work") == 0
