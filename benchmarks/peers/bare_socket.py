"""Counts frames on a bare socket and knows nothing: the limit."""

import os

from benchmarks.bare import Bare
from benchmarks.job import Job

job = Job()
setting = job.setting
Bare(os.environ["URL"]).consume(
    setting.queues[0], setting.prefetch, setting.deliveries, lambda count: job.run(range(count))
)
