"""pika's SelectConnection, every 256th message acknowledged with `multiple`."""

import os

import pika

from benchmarks.job import Job

job = Job()
setting = job.setting
count = 0  # over all queues of the channel, as its delivery tags are
last = 0  # that is to be acknowledged


def handle(channel, method, properties, body):
    global count, last
    job.run([body])
    count += 1
    outcome = job.outcome(body)
    if outcome == "ack":
        last = method.delivery_tag
    else:
        channel.basic_reject(method.delivery_tag, requeue=outcome == "requeue")
    if last and (count % 256 == 0 or count == setting.deliveries):
        channel.basic_ack(last, multiple=True)
        last = 0


def consume(channel):
    channel.basic_qos(prefetch_count=setting.prefetch)
    for queue in setting.queues:
        channel.basic_consume(queue, handle)


connection = pika.SelectConnection(
    pika.URLParameters(os.environ["URL"]),
    on_open_callback=lambda connection: connection.channel(on_open_callback=consume),
)
connection.ioloop.start()
