"""The same web service under tornado.

CALLBOARD_CONNECTION=amqp://guest:guest@127.0.0.1:5672/ python -m handlers.web_tornado 8888
"""

from __future__ import annotations

import asyncio
import sys

from tornado.web import Application, RequestHandler

from actors import TaskExpired, TaskFailed
from handlers.calls import Stat, app, infinite_loop_task, long_task, news, publish

#: Seconds that a long poll stays open without an event.
POLL_S = 25.0


class Main(RequestHandler):
    """One call, before those of a lower priority."""

    async def get(self) -> None:
        self.write(await long_task.options(priority=9).call("*" * 1_000_000))


class Statistics(RequestHandler):
    """Whichever worker has time."""

    async def get(self) -> None:
        self.write(await Stat.call())


class Fast(RequestHandler):
    """A call that cannot succeed, and whose end is known in time."""

    async def get(self) -> None:
        options = infinite_loop_task.options(persistent=False, priority=9, expires=3, wait=10)
        try:
            await options.call()
        except TaskFailed as error:
            self.write("Timeout" if error.type == "TimeoutError" else str(error))
        except TaskExpired:
            self.write("All workers are gone")


class Parallel(RequestHandler):
    """Two calls at once; where one fails, the other's result is there."""

    async def get(self) -> None:
        test, served = await app.gather(long_task.job(), Stat.job(), return_exceptions=True)
        self.write(f"Test result: {test}\nStat result: {served}")


class Subscribe(RequestHandler):
    """A long poll: nothing is missed between two that name the last event."""

    async def get(self) -> None:
        async with news.subscribe(since=self.get_query_argument("since", None)) as events:
            try:
                event = await asyncio.wait_for(anext(events), POLL_S)
            except TimeoutError:
                self.set_status(204)
                return
        self.write({"id": event.id, "data": event.data})


class Publish(RequestHandler):
    """Publishes the body, by way of a worker."""

    async def post(self) -> None:
        await publish.send(self.request.body.decode())
        self.write("ok")


async def serve(port: int) -> None:
    """Serves until the process is ended."""
    web = Application(
        [
            ("/", Main),
            ("/stat", Statistics),
            ("/fast", Fast),
            ("/parallel", Parallel),
            ("/subscribe", Subscribe),
            ("/publish", Publish),
        ]
    )
    web.listen(port, "127.0.0.1")
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
