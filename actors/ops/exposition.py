"""`/metrics`: the report of the system, and what its processes measured, as Prometheus reads it."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector

from actors.version import version

#: Of a route's numbers, those that say what became of a delivery.
SETTLED = ("acked", "rejected", "requeued", "retried", "dead")
ROLES = ("supervisor", "connection", "batcher", "handler", "clock")


def exposition(report: dict[str, Any], host: str, directory: Path) -> bytes:
    """The page of one host. `directory` is where its processes keep their files.

    The report is of the whole system: what it says of other hosts is on their pages, and what
    connections count on the page of the host that has them, or sums would count it twice.
    """
    actors = [actor for actor in report["actors"] if actor["host"] == host]
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Reported(report, actors))
    registry.register(_Measured(actors, directory))
    return generate_latest(registry)


class _Reported:
    """The counts of the actors themselves."""

    def __init__(self, report: dict[str, Any], actors: list[dict[str, Any]]) -> None:
        self._report = report
        self._actors = actors

    def collect(self) -> Iterator[Metric]:
        yield from self._of_system()
        if any(actor["role"] == "connection" for actor in self._actors):
            yield from self._of_routes()
        yield from self._of_actors()

    def _of_system(self) -> Iterator[Metric]:
        report = self._report
        labels = {
            "version": version(),
            "python": platform.python_version(),
            "app": report["app"],
            "app_version": report["version"],
        }
        info = GaugeMetricFamily("callboard_build_info", "Always 1.", labels=list(labels))
        info.add_metric(list(labels.values()), 1)
        yield info
        yield GaugeMetricFamily(
            "callboard_ready", "Whether it consumes and does not drain.", report["ready"]
        )

    def _of_routes(self) -> Iterator[Metric]:
        yield CounterMetricFamily(
            "callboard_settlements_stale",
            "Answers that came too late to settle anything.",
            self._report["totals"]["stale"],
        )
        yield CounterMetricFamily(
            "callboard_replies_lost",
            "Replies to callers that were gone.",
            self._report["totals"].get("replies_lost", 0),
        )
        received = CounterMetricFamily(
            "callboard_messages_received", "Deliveries taken in.", labels=["route"]
        )
        settled = CounterMetricFamily(
            "callboard_messages_settled", "What became of them.", labels=["route", "status"]
        )
        in_flight = GaugeMetricFamily(
            "callboard_in_flight", "Deliveries taken in and not settled.", labels=["route"]
        )
        oldest = GaugeMetricFamily(
            "callboard_oldest_age_seconds",
            "Age of the oldest that is not settled, over the routes of its connection.",
            labels=["route"],
        )
        waiting = GaugeMetricFamily(
            "callboard_spool_waiting",
            "Messages of a spool that are ready and in nobody's hand.",
            labels=["route"],
        )
        jobs = GaugeMetricFamily(
            "callboard_jobs", "Jobs that their store keeps.", labels=["queue", "status"]
        )
        for route in self._report["routes"]:
            name = [route["name"]]
            for status, number in route.get("jobs", {}).items():
                jobs.add_metric([*name, status], number)
            received.add_metric(name, route["received"])
            for status in SETTLED:
                settled.add_metric([*name, status], route[status])
            in_flight.add_metric(name, route["in_flight"])
            oldest.add_metric(name, route["oldest_s"])
            if "waiting" in route:
                waiting.add_metric(name, route["waiting"])
        yield from (received, settled, in_flight, oldest, waiting, jobs)

    def _of_actors(self) -> Iterator[Metric]:
        up = GaugeMetricFamily("callboard_actors_up", "Actors that run.", labels=["role"])
        restarts = CounterMetricFamily(
            "callboard_actor_restarts", "Deaths made good.", labels=["role", "actor"]
        )
        connected = GaugeMetricFamily(
            "callboard_connected", "Whether all its queues are consumed.", labels=["connection"]
        )
        running = Counter(actor["role"] for actor in self._actors if actor["state"] == "running")
        for role in sorted({*ROLES, *running}):
            up.add_metric([role], running[role])
        for actor in self._actors:
            restarts.add_metric([actor["role"], actor["name"]], actor["restarts"])
            if actor["role"] == "connection":
                name = actor["name"].rpartition("/")[0]
                connected.add_metric([name], actor["state"] == "running")
        yield from (up, restarts, connected)


class _Measured:
    """The measures of all processes, dead ones included; a gauge's value dies with its process."""

    def __init__(self, actors: list[dict[str, Any]], directory: Path) -> None:
        self._living = {actor["name"] for actor in actors if actor["pid"]}
        self._directory = directory

    def collect(self) -> Iterator[Metric]:
        files = [str(file) for file in self._directory.glob("*.db") if self._counts(file)]
        yield from MultiProcessCollector.merge(files)  # type: ignore[no-untyped-call]

    def _counts(self, file: Path) -> bool:
        kind, _, rest = file.stem.partition("_")
        return kind != "gauge" or unquote(rest.partition("_")[2]) in self._living
