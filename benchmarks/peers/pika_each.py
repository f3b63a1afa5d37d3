"""pika's BlockingConnection, one acknowledgement a message, as its documentation shows."""

import os

import pika

from benchmarks.tally import Tally

tally = Tally()


def handle(channel, method, properties, body):
    tally.hit()
    channel.basic_ack(method.delivery_tag)


connection = pika.BlockingConnection(pika.URLParameters(os.environ["URL"]))
channel = connection.channel()
channel.basic_qos(prefetch_count=int(os.environ["PREFETCH"]))
channel.basic_consume("benchmark", handle)
channel.start_consuming()
