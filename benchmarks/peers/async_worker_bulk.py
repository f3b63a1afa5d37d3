"""async-worker with its bulks."""

import os
from operator import attrgetter
from urllib.parse import unquote, urlsplit

from asyncworker import App
from asyncworker.connections import AMQPConnection
from asyncworker.routes import AMQPRouteOptions

from benchmarks.job import Job

job = Job(attrgetter("serialized_data"))
setting = job.setting
url = urlsplit(os.environ["URL"])
connection = AMQPConnection(
    hostname=url.hostname,
    port=url.port,
    username=url.username,
    password=url.password,
    prefetch=setting.prefetch,
)
app = App(connections=[connection])


async def handle(messages):
    await job.arun(messages)
    if setting.outcomes:
        for message in messages:
            outcome = job.outcome(message)
            if outcome != "ack":
                message.reject(requeue=outcome == "requeue")


for queue in setting.queues:
    options = AMQPRouteOptions(bulk_size=setting.bulk)
    app.amqp.consume([queue], vhost=unquote(url.path[1:]), options=options)(handle)
app.run()
