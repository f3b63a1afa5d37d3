"""aio-pika's robust connection, `message.process()` for each message."""

import asyncio
import os

import aio_pika

from benchmarks.tally import Tally

tally = Tally()


async def main():
    connection = await aio_pika.connect_robust(os.environ["URL"])
    channel = await connection.channel()
    await channel.set_qos(prefetch_count=int(os.environ["PREFETCH"]))
    queue = await channel.get_queue("benchmark")

    async def handle(message):
        async with message.process():
            tally.hit()

    await queue.consume(handle)
    await asyncio.Future()


asyncio.run(main())
