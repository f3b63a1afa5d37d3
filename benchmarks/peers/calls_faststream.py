"""The same with FastStream's `request`: served by `faststream run`, called by `NAME N`."""

import asyncio
import os
import sys
import time

from faststream import FastStream
from faststream.rabbit import Channel, RabbitBroker, RabbitQueue

broker = RabbitBroker(os.environ["URL"], default_channel=Channel(prefetch_count=256))
app = FastStream(broker)


@broker.subscriber(RabbitQueue("fast.double", durable=True))
async def double(number: int) -> int:
    return 2 * number


@broker.subscriber(RabbitQueue("fast.model", durable=True))
async def model(number: int) -> int:
    time.sleep(0.01)
    return 2 * number


async def main():
    from benchmarks.calling import drive

    caller = RabbitBroker(os.environ["URL"])
    await caller.connect()
    queue = f"fast.{sys.argv[1]}"
    await drive(lambda number: caller.request(number, queue, timeout=60), int(sys.argv[2]))
    await caller.stop()


if __name__ == "__main__":
    asyncio.run(main())
