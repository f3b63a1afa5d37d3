"""Celery on RabbitMQ; `python celery_app.py` fills its queue, `celery worker` works on it."""

import os

from celery import Celery

from benchmarks.filling import main
from benchmarks.job import Job

job = Job()
app = Celery("celery_app", broker=os.environ["URL"])
app.conf.task_ignore_result = True
app.conf.worker_prefetch_multiplier = job.setting.prefetch // (job.setting.calls or 2)


@app.task
def handle(body):
    job.run([body])


if __name__ == "__main__":
    main(job.setting, lambda body: handle.delay(body.decode()))
