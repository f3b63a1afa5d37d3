"""The same with `JsonRPC` of aio-pika: `serve`, or `NAME N`."""

import asyncio
import os
import sys
import time

import aio_pika
from aio_pika.patterns import JsonRPC


async def double(number):
    return 2 * number


async def model(number):
    time.sleep(0.01)
    return 2 * number


async def main():
    connection = await aio_pika.connect(os.environ["URL"])
    async with connection:
        channel = await connection.channel()
        await channel.set_qos(256)
        rpc = await JsonRPC.create(channel)
        if sys.argv[1] == "serve":
            await rpc.register("aio.double", double, durable=True)
            await rpc.register("aio.model", model, durable=True)
            await asyncio.Event().wait()
        from benchmarks.calling import drive

        name = f"aio.{sys.argv[1]}"
        await drive(lambda number: rpc.call(name, {"number": number}), int(sys.argv[2]))


asyncio.run(main())
