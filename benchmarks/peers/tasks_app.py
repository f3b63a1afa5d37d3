"""Tasks of Callboard; `python tasks_app.py N` puts so many jobs, each with a result."""

import sys
import time

from actors import App

app = App()


@app.task("work", concurrency=2, in_flight=1)
def work(seconds: float) -> int:
    if seconds:
        time.sleep(seconds)
    return 1


def put(times):
    app.jobs.send_many_sync([work.job(seconds) for seconds in times])


def done():
    return app.jobs.count_sync("work")["finished"]


def put_one():
    work.send_sync(0.0)


if __name__ == "__main__":
    from benchmarks.driving import drive

    drive(sys.argv, put, put_one, done)
