"""The same with Celery and `rpc://` results: served by `celery worker`, called by `NAME N`."""

import os
import sys
import time

from celery import Celery

app = Celery(broker=os.environ["URL"], backend="rpc://")
app.conf.worker_prefetch_multiplier = 64


@app.task(name="double")
def double(number):
    return 2 * number


@app.task(name="model")
def model(number):
    time.sleep(0.01)
    return 2 * number


if __name__ == "__main__":
    from benchmarks.calling import AT_ONCE, ONE_BY_ONE, WARM_UP, told

    task, count = {"double": double, "model": model}[sys.argv[1]], int(sys.argv[2])
    delays = []
    for number in range(WARM_UP + ONE_BY_ONE):
        begun = time.perf_counter()
        task.delay(number).get(timeout=60, interval=0.001)
        if number >= WARM_UP:
            delays.append(time.perf_counter() - begun)
    begun = time.perf_counter()
    for first in range(0, count, AT_ONCE):
        sent = [task.delay(number) for number in range(first, min(count, first + AT_ONCE))]
        for result in sent:
            result.get(timeout=60, interval=0.001)
    told(delays, count, time.perf_counter() - begun)
