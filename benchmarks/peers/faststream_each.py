"""FastStream on RabbitMQ, a subscriber of raw bytes; run by `faststream run`."""

import os

from faststream import FastStream
from faststream.exceptions import NackMessage, RejectMessage
from faststream.rabbit import Channel, RabbitBroker, RabbitQueue

from benchmarks.job import Job

job = Job(lambda body: b'"' + body)  # FastStream has read the JSON string
setting = job.setting
broker = RabbitBroker(
    os.environ["URL"],
    default_channel=Channel(prefetch_count=setting.prefetch),
    logger=None,  # it would log each message, at the level that it is told
)
app = FastStream(broker)


async def handle(body: bytes) -> None:
    await job.arun([body])
    outcome = job.outcome(body)
    if outcome != "ack":
        raise RejectMessage if outcome == "reject" else NackMessage


for queue in setting.queues:
    broker.subscriber(RabbitQueue(queue, declare=False))(handle)
