"""Streams events to every client that connects, as fast as each reads them, then waits.

There are some more than are counted: some parsers give an event when the next one comes.

`python stream_server.py` prints the URL of the stream.
"""

import asyncio
import sys

from benchmarks.setting import Setting

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
BLOCK = 256  # events in one write
setting = Setting.read_environment()
total = setting.messages + 2 * BLOCK


def event(number):
    return b"id: %d\nevent: word\ndata: %s\n\n" % (number, setting.body(number))


async def stream(reader, writer):
    await reader.readuntil(b"\r\n\r\n")
    writer.write(HEAD)
    for first in range(0, total, BLOCK):
        last = min(first + BLOCK, total)
        writer.write(b"".join(map(event, range(first, last))))
        await writer.drain()
    await reader.read()  # until the client goes


async def main():
    server = await asyncio.start_server(stream, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    sys.stdout.write(f"http://127.0.0.1:{port}/events\n")
    sys.stdout.flush()
    await server.serve_forever()


asyncio.run(main())
