"""pika's BlockingConnection, one acknowledgement a message, as its documentation shows."""

import os

import pika

from benchmarks.job import Job

job = Job()


def handle(channel, method, properties, body):
    job.run([body])
    outcome = job.outcome(body)
    if outcome == "ack":
        channel.basic_ack(method.delivery_tag)
    else:
        channel.basic_reject(method.delivery_tag, requeue=outcome == "requeue")


connection = pika.BlockingConnection(pika.URLParameters(os.environ["URL"]))
channel = connection.channel()
channel.basic_qos(prefetch_count=job.setting.prefetch)
for queue in job.setting.queues:
    channel.basic_consume(queue, handle)
channel.start_consuming()
