"""Callboard on an event stream."""

import os

from actors import App, Options, SSEConnection
from benchmarks.job import Job

job = Job(lambda event: event.data)
app = App(connections=[SSEConnection(os.environ["STREAM"], prefetch_count=job.setting.prefetch)])


@app.route(["/events"], options={Options.BULK_SIZE: job.setting.bulk})
def handle(events):
    job.run(events)
