"""A plain loop over httpx-sse: no settlement, no checkpoint, no second process."""

import os

import httpx
from httpx_sse import connect_sse

from benchmarks.job import Job

job = Job()
with (
    httpx.Client(timeout=None) as client,
    connect_sse(client, "GET", os.environ["STREAM"]) as source,
):
    for event in source.iter_sse():
        job.run([event.data])
