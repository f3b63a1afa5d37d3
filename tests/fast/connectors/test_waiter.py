"""Values that another thread brings to coroutines and threads."""

from __future__ import annotations

import asyncio
import threading

import pytest

from actors.connectors.rabbitmq.waiter import Waiter, tell


def test_coroutines_and_threads_get_values_and_exceptions() -> None:
    async def wait() -> list[object]:
        waiters = [Waiter[int](is_async=True) for _ in range(3)]
        told = [(waiters[0], 1), (waiters[1], ValueError("no")), (waiters[2], 3)]
        thread = threading.Thread(target=lambda: tell(told))
        thread.start()
        got = await asyncio.gather(*(one.value(5) for one in waiters), return_exceptions=True)
        thread.join()
        return [*got]

    one, error, three = asyncio.run(wait())
    assert (one, three) == (1, 3)
    assert isinstance(error, ValueError)
    waiter = Waiter[int](is_async=False)
    tell([(waiter, 7)])
    assert waiter.value_sync(1) == 7


def test_who_gave_up_or_whose_loop_is_closed_is_not_missed() -> None:
    async def give_up() -> Waiter[int]:
        waiter = Waiter[int](is_async=True)
        with pytest.raises(TimeoutError):
            await waiter.value(0.01)
        tell([(waiter, 1)])
        await asyncio.sleep(0)
        return waiter

    gone = asyncio.run(give_up())
    late = Waiter[int](is_async=False)
    with pytest.raises(TimeoutError):
        late.value_sync(0.01)
    tell([(gone, 1), (late, 2), (late, 3)])
    assert late.value_sync(1) == 2
