"""Callboard, one route for each queue; `def`, and `async def` where the handler awaits."""

from operator import attrgetter

from actors import App, Options
from benchmarks.job import Job

job = Job(attrgetter("serialized_data"))
setting = job.setting
app = App()


def handle(messages):
    job.run(messages)
    if setting.outcomes:
        for message in messages:
            settle(message, job.outcome(message))


async def wait(messages):
    await job.arun(messages)


def settle(message, outcome):
    if outcome != "ack":
        message.reject(requeue=outcome == "requeue")


options = {Options.BULK_SIZE: setting.bulk, Options.CONCURRENCY: setting.processes}
if setting.calls:
    options[Options.IN_FLIGHT] = setting.calls
if setting.pool:
    options[Options.POOL] = setting.pool
for queue in setting.queues:
    app.route([queue], options=options)(wait if setting.wait else handle)
