"""huey on SQLite; `python huey_app.py` fills its queue, `huey_consumer` works on it."""

import os

from huey import SqliteHuey

from benchmarks.filling import main
from benchmarks.job import Job

job = Job()
huey = SqliteHuey(filename=os.path.join(os.environ["DIRECTORY"], "huey.db"))


@huey.task()
def handle(body):
    job.run([body])


if __name__ == "__main__":
    import huey_app  # tasks are known by the name of their module

    main(job.setting, huey_app.handle)
