"""Every form of `Timeit`, again and again, and at once."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from actors.api import timeit as module
from actors.api.timeit import Timeit


class Clock:
    """A clock that only the test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "perf_counter", clock)
    return clock


class Calls(list[dict[str, Any]]):
    """A callback that keeps what it is called with."""

    def __call__(self, **values: Any) -> None:
        self.append(values)

    async def later(self, **values: Any) -> None:
        await asyncio.sleep(0)
        self.append(values)

    @property
    def transactions(self) -> list[dict[str, float]]:
        return [call["transactions"] for call in self]


def test_the_callback_is_called_once_at_the_end_with_the_seconds(clock: Clock) -> None:
    """B51"""
    calls = Calls()
    with Timeit(name="whole", callback=calls):
        clock.now += 1.0
        assert calls == []
    assert calls == [
        {"transactions": {"whole": 1.0}, "exc_type": None, "exc_val": None, "exc_tb": None}
    ]


def test_an_async_context_awaits_an_async_callback(clock: Clock) -> None:
    """B51"""
    calls = Calls()

    async def main() -> None:
        async with Timeit(name="whole", callback=calls.later):
            clock.now += 1.0
            assert calls == []

    asyncio.run(main())
    assert calls.transactions == [{"whole": 1.0}]


def test_the_callback_is_told_what_was_raised_and_the_exception_goes_on() -> None:
    """B52"""
    calls, error = Calls(), KeyError("error")

    async def main() -> None:
        async with Timeit(name="whole", callback=calls.later):
            raise error

    with pytest.raises(KeyError) as caught:
        asyncio.run(main())
    assert caught.value is error
    (call,) = calls
    assert (call["exc_type"], call["exc_val"]) == (KeyError, error)
    assert call["exc_tb"].tb_frame.f_code.co_name == "main"
    with pytest.raises(KeyError), Timeit(name="plain", callback=calls):
        raise error
    assert calls[-1]["exc_val"] is error


def test_parts_end_up_in_one_call(clock: Clock) -> None:
    """B53"""
    calls = Calls()

    async def main() -> None:
        async with Timeit(name="a", callback=calls.later) as timeit:
            clock.now += 1
            async with timeit(name="b"):
                clock.now += 1
                async with timeit(name="c"):
                    clock.now += 1

    asyncio.run(main())
    assert calls.transactions == [{"c": 1.0, "b": 2.0, "a": 3.0}]
    assert list(calls.transactions[0]) == ["c", "b", "a"]


def test_a_part_of_a_part_belongs_to_the_whole(clock: Clock) -> None:
    calls = Calls()
    with Timeit("a", calls) as a, a(name="b") as b, b(name="c"):
        clock.now += 1
    assert calls.transactions == [{"c": 1.0, "b": 1.0, "a": 1.0}]


@pytest.mark.parametrize("name", ["a", "b"])
def test_a_name_that_is_taken_is_refused_before_anything_is_done(name: str) -> None:
    """B53"""
    calls, done = Calls(), []
    with Timeit("a", calls) as timeit:
        with timeit(name="b"):
            pass
        taken = pytest.raises(ValueError, match=f"two transactions are named '{name}'")
        with taken, timeit(name=name):
            done.append(name)
    assert not done
    assert sorted(calls.transactions[0]) == ["a", "b"]


@pytest.mark.parametrize("times", [1, 5])
def test_a_decorated_coroutine_is_measured_each_time_it_runs(clock: Clock, times: int) -> None:
    """B54"""
    calls = Calls()

    @Timeit(name="handler", callback=calls.later)
    async def handler(messages: list[int]) -> int:
        """What it does."""
        clock.now += 2
        return len(messages)

    async def main() -> list[int]:
        return [await handler([1, 2]) for _ in range(times)]

    assert asyncio.run(main()) == [2] * times
    assert calls.transactions == [{"handler": 2.0}] * times
    assert (handler.__name__, handler.__doc__) == ("handler", "What it does.")


def test_a_decorated_function_is_measured_each_time_it_runs(clock: Clock) -> None:
    """B54"""
    calls = Calls()

    @Timeit("handler", calls)
    def handler(seconds: float) -> float:
        clock.now += seconds
        return seconds

    assert [handler(1), handler(2)] == [1, 2]
    assert calls.transactions == [{"handler": 1.0}, {"handler": 2.0}]


def test_an_object_with_an_async_call_can_be_decorated() -> None:
    calls = Calls()

    class Handler:
        __name__ = __qualname__ = "Handler"

        async def __call__(self, messages: list[int]) -> int:
            return len(messages)

    assert asyncio.run(Timeit("handler", calls.later)(Handler())([1])) == 1
    assert len(calls) == 1


def test_parts_are_found_through_the_instance_that_decorates(clock: Clock) -> None:
    calls = Calls()
    timeit = Timeit("handler", calls)

    @timeit
    async def handler() -> None:
        async with timeit(name="fetch"):
            await asyncio.sleep(0)
            clock.now += 1

        @timeit(name="store")
        async def store() -> None:
            clock.now += 1

        await store()

    async def main() -> None:
        await handler()
        await asyncio.gather(handler(), handler())

    asyncio.run(main())
    assert [sorted(times) for times in calls.transactions] == [["fetch", "handler", "store"]] * 3


def test_an_instance_can_be_used_again_and_within_itself(clock: Clock) -> None:
    calls = Calls()
    timeit = Timeit("countdown", calls)

    @timeit
    def countdown(number: int) -> None:
        clock.now += 1
        if number:
            countdown(number - 1)

    countdown(2)
    assert calls.transactions == [{"countdown": 1.0}, {"countdown": 2.0}, {"countdown": 3.0}]
    with timeit:
        pass
    assert calls.transactions[-1] == {"countdown": 0.0}


def test_tasks_share_an_instance_and_measure_each_for_itself() -> None:
    calls = Calls()
    timeit = Timeit("task", calls.later)

    async def main() -> None:
        gates = [asyncio.Event() for _ in range(5)]

        async def work(number: int) -> None:
            async with timeit as running, running(name=f"part {number}"):
                await gates[number].wait()

        async with asyncio.TaskGroup() as group:
            for number in range(5):
                group.create_task(work(number))
            await asyncio.sleep(0)
            for gate in reversed(gates):  # the first to begin is the last to end
                gate.set()
                await asyncio.sleep(0)

    asyncio.run(main())
    expected = [[f"part {number}", "task"] for number in (4, 3, 2, 1, 0)]
    assert [list(times) for times in calls.transactions] == expected


def test_threads_share_an_instance_and_measure_each_for_itself() -> None:
    calls = Calls()
    timeit = Timeit("thread", calls)
    together = threading.Barrier(8)

    def work() -> None:
        for number in range(50):
            with timeit as running, running(name=f"part {number}"):
                together.wait(10)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(calls) == 400
    assert all(len(times) == 2 for times in calls.transactions)


def test_a_part_may_be_measured_in_another_thread() -> None:
    calls = Calls()
    with Timeit("whole", calls) as timeit:

        def work() -> None:
            with timeit(name="part"):
                pass

        thread = threading.Thread(target=work)
        thread.start()
        thread.join(10)
    assert list(calls.transactions[0]) == ["part", "whole"]


def test_parts_of_concurrent_tasks_belong_to_the_task_that_made_them() -> None:
    calls = Calls()
    timeit = Timeit("whole", calls)

    async def part(name: str) -> None:
        async with timeit(name=name):
            await asyncio.sleep(0)

    async def main() -> None:
        async with timeit:
            await asyncio.gather(part("b"), part("c"))

    asyncio.run(main())
    assert list(calls.transactions[0]) == ["b", "c", "whole"]


def test_a_part_that_outlives_the_whole_changes_nothing_any_more() -> None:
    calls = Calls()
    timeit = Timeit("whole", calls)
    with timeit as running:
        part = running(name="late")
        part.__enter__()
    part.__exit__(None, None, None)
    assert list(calls.transactions[0]) == ["whole"]
    with pytest.raises(RuntimeError, match="Timeit 'whole': measures nothing in this task"):
        timeit(name="more")


def test_tasks_that_beget_tasks_do_not_pile_up_measurements() -> None:
    timeit = Timeit("generation")
    sizes: list[int] = []

    async def live(left: int) -> None:
        async with timeit:
            sizes.append(len(module._running.get()))
        if left:
            await asyncio.create_task(live(left - 1))

    asyncio.run(live(50))
    assert set(sizes) == {1}


def test_without_a_callback_only_the_names_are_checked() -> None:
    with Timeit("whole") as timeit, timeit(name="part"):
        pass
    assert sorted(timeit.transactions) == ["part", "whole"]


def test_nothing_to_decorate_is_an_error() -> None:
    with pytest.raises(ValueError, match="give the function to decorate"):
        Timeit("whole")()  # type: ignore[call-overload]


def test_an_async_callback_is_refused_where_nothing_can_await_it() -> None:
    timeit = Timeit("whole", Calls().later)
    with pytest.raises(TypeError, match="Timeit 'whole': an async callback needs `async with`"):
        timeit(lambda: None)
    with pytest.raises(TypeError, match="an async callback needs"), timeit:
        pass


def test_time_is_monotonic_and_never_too_short() -> None:
    """B51"""
    calls = Calls()
    with Timeit("pause", calls):
        threading.Event().wait(0.05)
    assert 0.05 <= calls.transactions[0]["pause"] < 5
