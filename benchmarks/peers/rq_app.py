"""RQ on Redis; `python rq_app.py` fills its queue, `rq worker` works on it."""

import os

from redis import Redis
from rq import Queue

from benchmarks.filling import main
from benchmarks.job import Job

job = Job()


def handle(body):
    job.run([body])


if __name__ == "__main__":
    queue = Queue(connection=Redis.from_url(os.environ["RQ_REDIS_URL"]))
    main(job.setting, lambda body: queue.enqueue("rq_app.handle", body))
