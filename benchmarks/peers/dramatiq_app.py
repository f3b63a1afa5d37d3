"""Dramatiq on RabbitMQ; `python dramatiq_app.py` fills its queue, `dramatiq` works on it."""

import os

import dramatiq
from dramatiq.brokers.rabbitmq import RabbitmqBroker

from benchmarks.tally import Tally

tally = Tally()
dramatiq.set_broker(RabbitmqBroker(url=os.environ["URL"]))


@dramatiq.actor(queue_name="dramatiq")
def handle(body):
    tally.hit()


if __name__ == "__main__":
    for _ in range(int(os.environ["MESSAGES"])):
        handle.send("x" * 120)
