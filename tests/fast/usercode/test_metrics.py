"""Metrics as handlers declare and use them; nothing is kept where nobody asked for it."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from actors.metrics import Counter, Gauge, Histogram, use_registry
from actors.usercode.metrics_registry import FileRegistry, MemoryRegistry

SEEN = Counter("test_seen", "Seen.", ["kind", "place"])
OPEN = Gauge("test_open", "Open.")
LAST = Gauge("test_last", "The last.", over="mostrecent")
TOOK = Histogram("test_took_seconds", "Took.", buckets=[0.1, 1.0])


@pytest.fixture
def registry() -> Iterator[MemoryRegistry]:
    registry = MemoryRegistry()
    use_registry(registry)
    yield registry
    use_registry(None)


def test_a_counter_counts_by_its_labels_in_order_or_by_name(registry: MemoryRegistry) -> None:
    SEEN.labels("a", "b").inc()
    SEEN.labels(place="b", kind="a").inc(2)
    SEEN.labels("a", 1).inc()
    assert registry.sample("test_seen_total", {"kind": "a", "place": "b"}) == 3
    assert registry.sample("test_seen_total", {"kind": "a", "place": "1"}) == 1


def test_a_gauge_goes_up_and_down(registry: MemoryRegistry) -> None:
    OPEN.set(5)
    OPEN.inc(2)
    OPEN.dec()
    LAST.set(3)
    assert (registry.sample("test_open", {}), registry.sample("test_last", {})) == (6, 3)


def test_a_histogram_counts_below_its_bounds_and_times_what_raises(
    registry: MemoryRegistry,
) -> None:
    for value in (0.05, 0.5, 5.0):
        TOOK.observe(value)
    with pytest.raises(KeyError), TOOK.time():
        raise KeyError
    assert registry.sample("test_took_seconds_bucket", {"le": "1.0"}) == 3
    assert registry.sample("test_took_seconds_count", {}) == 4


def test_the_same_declaration_again_is_the_same_metric(registry: MemoryRegistry) -> None:
    Counter("test_seen_total", "Seen.", ("kind", "place")).labels("x", "y").inc()
    assert registry.sample("test_seen_total", {"kind": "x", "place": "y"}) == 1
    with pytest.raises(ValueError, match="'test_seen' is declared a second time, and differently"):
        Counter("test_seen", "Seen.", ["kind"])


@pytest.mark.parametrize(
    "mistake",
    [
        lambda: SEEN.labels("a").inc(),
        lambda: SEEN.labels(kind="a").inc(),
        lambda: SEEN.labels("a", place="b"),
        lambda: SEEN.labels("a", "b").labels("a", "b"),
        lambda: SEEN.inc(),
        lambda: SEEN.labels("a", "b").inc(-1),
        lambda: Counter("with-dash", "."),
        lambda: Counter("test_label", ".", ["__name"]),
        lambda: Histogram("test_buckets", ".", buckets=[2, 1]),
        lambda: Histogram("test_le", ".", ["le"]),
    ],
)
@pytest.mark.parametrize("kept", [False, True])
def test_a_mistake_is_one_with_and_without_health(mistake: object, kept: bool) -> None:
    use_registry(MemoryRegistry() if kept else None)
    try:
        with pytest.raises(ValueError, match=r"label|name|grows|ascend"):
            mistake()  # type: ignore[operator]
    finally:
        use_registry(None)


def test_the_next_process_of_a_slot_goes_on_counting_but_its_gauges_begin_anew(
    tmp_path: Path,
) -> None:
    script = (
        "import os, pathlib, sys\n"
        "from actors.usercode.metrics_registry import FileRegistry\n"
        "from actors.metrics import Counter, Gauge, use_registry\n"
        "where = pathlib.Path(os.environ['PROMETHEUS_MULTIPROC_DIR'])\n"
        "use_registry(FileRegistry(where, 'a/b_c/1'))\n"
        "Counter('seen', '.').inc(2)\n"
        "if len(sys.argv) > 1: Gauge('open', '.').set(3)\n"
        "os._exit(9)\n"
    )
    environment = {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path), "PYTHONPATH": ":".join(sys.path)}
    for argument in (["first"], []):
        done = subprocess.run([sys.executable, "-c", script, *argument], env=environment)
        assert done.returncode == 9
    (file,) = tmp_path.iterdir()
    assert file.name == "counter_a%2Fb_c%2F1.db"
    assert file.stat().st_blocks * 512 >= FileRegistry.ROOM, "the disk keeps room for it"
    from prometheus_client.multiprocess import MultiProcessCollector

    (metric,) = MultiProcessCollector.merge([str(file)])  # type: ignore[no-untyped-call]
    assert [sample.value for sample in metric.samples] == [4.0]


def test_where_no_file_can_be_kept_nothing_is_measured_and_nothing_fails(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "actors.metrics")
    use_registry(FileRegistry(tmp_path / "gone", "a/1"))
    try:
        OPEN.inc()
        OPEN.inc()
    finally:
        use_registry(None)
    assert caplog.text.count("metric test_open is not kept: ") == 1


def test_gauges_of_other_slots_stay(tmp_path: Path) -> None:
    other = tmp_path / "gauge_livesum_a%2F2.db"
    own = tmp_path / "gauge_livesum_a%2F1.db"
    other.touch()
    own.touch()
    FileRegistry(tmp_path, "a/1")
    assert other.exists()
    assert not own.exists()


def test_who_keeps_nothing_does_not_load_prometheus_client() -> None:
    script = (
        "import sys, actors.usercode.runner\n"
        "from actors.metrics import Counter\n"
        "Counter('seen', '.').inc()\n"
        "sys.exit('prometheus_client' in sys.modules)\n"
    )
    environment = {"PYTHONPATH": ":".join(sys.path)}
    assert subprocess.run([sys.executable, "-c", script], env=environment).returncode == 0
