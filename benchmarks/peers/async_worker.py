"""async-worker, bulks of 256."""

import os
from urllib.parse import urlsplit

from asyncworker import App
from asyncworker.connections import AMQPConnection
from asyncworker.routes import AMQPRouteOptions

from benchmarks.tally import Tally

tally = Tally()
url = urlsplit(os.environ["URL"])
connection = AMQPConnection(
    hostname=url.hostname,
    port=url.port,
    username=url.username,
    password=url.password,
    prefetch=int(os.environ["PREFETCH"]),
)
app = App(connections=[connection])


@app.amqp.consume(
    ["benchmark"],
    vhost=url.path[1:],
    options=AMQPRouteOptions(bulk_size=int(os.environ["BULK"]), bulk_flush_interval=1),
)
async def handle(messages):
    tally.hit(len(messages))


app.run()
