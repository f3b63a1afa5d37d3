"""The same tasks of huey on SQLite, its results stored."""

import os
import sys
import time

from huey import SqliteHuey

# huey.put is durable as ours is: every commit reaches the disk.
huey = SqliteHuey(
    filename=os.path.join(os.environ["DIRECTORY"], "huey.db"), results=True, fsync=True
)


@huey.task()
def work(seconds):
    if seconds:
        time.sleep(seconds)
    return 1


def put(times):
    import tasks_huey  # tasks are known by the name of their module

    for seconds in times:
        tasks_huey.work(seconds)


def put_one():
    put([0.0])


if __name__ == "__main__":
    from benchmarks.driving import drive

    drive(sys.argv, put, put_one, huey.storage.result_store_size)
