"""Tasks that web services call over RabbitMQ, after the example of crew.

callboard run handlers.calls:app --connection amqp://guest:guest@127.0.0.1:5672/
callboard call test --connection amqp://guest:guest@127.0.0.1:5672/

The services beside them, to be started with CALLBOARD_CONNECTION set to the same URL:
`handlers/web_starlette.py` and `handlers/web_tornado.py`.
"""

from __future__ import annotations

from actors import App, JobContext, TaskActor

app = App()
news = app.topic("test")


@app.task("test", priorities=10)
def long_task(req: str = "") -> str:
    """Takes what it is given, however long."""
    return "Wake up Neo.\n"


@app.task("dead", timeout=3, grace=0, priorities=10)
def infinite_loop_task() -> None:
    """Never ends by itself."""
    while True:
        pass


@app.task("stat")
class Stat(TaskActor):
    """Counts what its process has served."""

    def on_start(self) -> None:
        self.served = 0

    def run(self, ctx: JobContext) -> str:
        self.served += 1
        return f'I\'m worker "{ctx.worker}". And I serve {self.served} tasks'


@app.task("publish")
async def publish(body: str) -> None:
    """Tells whoever listens, in whatever process."""
    await news.publish(body)
