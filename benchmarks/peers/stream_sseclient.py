"""A plain loop over sseclient-py on requests, as its documentation shows it."""

import os

import requests
from sseclient import SSEClient

from benchmarks.job import Job

job = Job()
headers = {"Accept": "text/event-stream"}
with requests.get(os.environ["STREAM"], stream=True, headers=headers) as response:
    for event in SSEClient(response).events():
        job.run([event.data])
