"""The same tasks of RQ on Redis, its results stored."""

import os
import sys
import time

from redis import Redis
from rq import Queue
from rq.registry import FinishedJobRegistry

redis = Redis.from_url(os.environ["RQ_REDIS_URL"])
queue = Queue(connection=redis)


def work(seconds):
    if seconds:
        time.sleep(seconds)
    return 1


def put(times):
    prepared = [Queue.prepare_data("tasks_rq.work", args=(seconds,)) for seconds in times]
    queue.enqueue_many(prepared)


def put_one():
    queue.enqueue("tasks_rq.work", 0.0)


def done():
    return FinishedJobRegistry(connection=redis).count


if __name__ == "__main__":
    from benchmarks.driving import drive

    drive(sys.argv, put, put_one, done)
