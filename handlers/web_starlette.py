"""A web service that calls tasks, under Starlette.

CALLBOARD_CONNECTION=amqp://guest:guest@127.0.0.1:5672/ uvicorn handlers.web_starlette:web
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from actors import TaskExpired, TaskFailed
from handlers.calls import Stat, app, infinite_loop_task, long_task, news, publish

#: Seconds that a long poll stays open without an event.
POLL_S = 25.0


async def main(request: Request) -> Response:
    """One call, before those of a lower priority."""
    return PlainTextResponse(await long_task.options(priority=9).call("*" * 1_000_000))


async def stat(request: Request) -> Response:
    """Whichever worker has time."""
    return PlainTextResponse(await Stat.call())


async def fast(request: Request) -> Response:
    """A call that cannot succeed, and whose end is known in time."""
    try:
        await infinite_loop_task.options(persistent=False, priority=9, expires=3, wait=10).call()
    except TaskFailed as error:
        return PlainTextResponse("Timeout" if error.type == "TimeoutError" else str(error))
    except TaskExpired:
        return PlainTextResponse("All workers are gone")
    return PlainTextResponse("It ended")


async def parallel(request: Request) -> Response:
    """Two calls at once; where one fails, the other's result is there."""
    test, served = await app.gather(long_task.job(), Stat.job(), return_exceptions=True)
    return PlainTextResponse(f"Test result: {test}\nStat result: {served}")


async def subscribe(request: Request) -> Response:
    """A long poll: nothing is missed between two that name the last event."""
    async with news.subscribe(since=request.query_params.get("since")) as events:
        try:
            event = await asyncio.wait_for(anext(events), POLL_S)
        except TimeoutError:
            return Response(status_code=204)
    return JSONResponse({"id": event.id, "data": event.data})


async def emit(request: Request) -> Response:
    """Publishes the body, by way of a worker."""
    await publish.send((await request.body()).decode())
    return PlainTextResponse("ok")


@asynccontextmanager
async def lifespan(web: Starlette) -> AsyncIterator[None]:
    """Lets go of the connections at the end."""
    yield
    await app.aclose()


web = Starlette(
    routes=[
        Route("/", main),
        Route("/stat", stat),
        Route("/fast", fast),
        Route("/parallel", parallel),
        Route("/subscribe", subscribe),
        Route("/publish", emit, methods=["POST"]),
    ],
    lifespan=lifespan,
)
