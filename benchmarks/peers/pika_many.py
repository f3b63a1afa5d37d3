"""pika's SelectConnection, every 256th message acknowledged with `multiple`."""

import os

import pika

from benchmarks.tally import Tally

tally = Tally()
last = int(os.environ["MESSAGES"])


def handle(channel, method, properties, body):
    tally.hit()
    if method.delivery_tag % 256 == 0 or method.delivery_tag == last:
        channel.basic_ack(method.delivery_tag, multiple=True)


def consume(channel):
    channel.basic_qos(prefetch_count=int(os.environ["PREFETCH"]))
    channel.basic_consume("benchmark", handle)


connection = pika.SelectConnection(
    pika.URLParameters(os.environ["URL"]),
    on_open_callback=lambda connection: connection.channel(on_open_callback=consume),
)
connection.ioloop.start()
