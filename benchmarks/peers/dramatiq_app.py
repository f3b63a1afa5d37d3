"""Dramatiq on RabbitMQ; `python dramatiq_app.py` fills its queue, `dramatiq` works on it."""

import os

import dramatiq
from dramatiq.brokers.rabbitmq import RabbitmqBroker

from benchmarks.filling import main
from benchmarks.job import Job

job = Job()
dramatiq.set_broker(RabbitmqBroker(url=os.environ["URL"]))


@dramatiq.actor(queue_name="dramatiq")
def handle(body):
    job.run([body])


if __name__ == "__main__":
    main(job.setting, lambda body: handle.send(body.decode()))
