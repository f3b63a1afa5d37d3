"""FastStream on RabbitMQ, a subscriber of raw bytes."""

import asyncio
import logging
import os

from faststream import FastStream
from faststream.rabbit import Channel, RabbitBroker, RabbitQueue

from benchmarks.tally import Tally

tally = Tally()
broker = RabbitBroker(
    os.environ["URL"],
    default_channel=Channel(prefetch_count=int(os.environ["PREFETCH"])),
    log_level=logging.WARNING,
)
app = FastStream(broker)


@broker.subscriber(RabbitQueue("benchmark", declare=False))
async def handle(body: bytes) -> None:
    tally.hit()


asyncio.run(app.run(log_level=logging.WARNING))
