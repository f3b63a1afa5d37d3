"""Celery on RabbitMQ; `python celery_app.py` fills its queue, `celery worker` works on it."""

import os

from celery import Celery

from benchmarks.tally import Tally

tally = Tally()
app = Celery("celery_app", broker=os.environ["URL"])
app.conf.task_ignore_result = True
app.conf.worker_prefetch_multiplier = int(os.environ["PREFETCH"]) // 2
app.conf.task_default_queue = "celery"


@app.task
def handle(body):
    tally.hit()


if __name__ == "__main__":
    for _ in range(int(os.environ["MESSAGES"])):
        handle.delay("x" * 120)
