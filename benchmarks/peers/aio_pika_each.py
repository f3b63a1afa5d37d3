"""aio-pika's robust connection, `message.process()` for each message."""

import asyncio
import os

import aio_pika

from benchmarks.job import Job


async def main():
    job = Job(lambda message: message.body)
    setting = job.setting

    async def handle(message):
        async with message.process(ignore_processed=True):
            await job.arun([message])
            outcome = job.outcome(message)
            if outcome != "ack":
                await message.reject(requeue=outcome == "requeue")

    connection = await aio_pika.connect_robust(os.environ["URL"])
    channel = await connection.channel()
    await channel.set_qos(prefetch_count=setting.prefetch)
    for name in setting.queues:
        queue = await channel.get_queue(name)
        await queue.consume(handle)
    await asyncio.Future()


asyncio.run(main())
