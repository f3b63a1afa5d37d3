"""Callboard on a spool; `python spool_app.py` fills it, `callboard run` works on it."""

import os
import sys
from functools import partial

from actors import App, Options, Publisher, SpoolConnection
from benchmarks.filling import fill
from benchmarks.job import Job

SINGLE = 2048  # put one at a time and timed; the rest at once
job = Job(lambda message: message.serialized_data)
path = os.path.join(os.environ["DIRECTORY"], "spool.db")
app = App(connections=[SpoolConnection(path)])


@app.route(
    ["benchmark"],
    options={Options.BULK_SIZE: job.setting.bulk, Options.CONCURRENCY: job.setting.processes},
)
def handle(messages):
    job.run(messages)


if __name__ == "__main__":
    count = int(sys.argv[1])
    single = min(count, SINGLE)
    with Publisher(f"spool://{path}") as publisher:
        put = partial(publisher.put, "benchmark", None)
        rate = fill(job.setting, lambda body: put(serialized_data=body), single)
        sys.stdout.write(f"{rate}\n")
        publisher.put_many("benchmark", map(job.setting.body, range(single, count)))
