"""Results become tables, outcomes on the targets, and a chart."""

from __future__ import annotations

import xml.etree.ElementTree as XML
from dataclasses import asdict
from pathlib import Path

import pytest

from benchmarks import results
from benchmarks.chart import chart
from benchmarks.report import plot, report
from benchmarks.results import Result, load, save
from benchmarks.scenes import LIMIT, OURS, SCENES, Figures
from benchmarks.setting import Setting, number_of
from benchmarks.targets import Target
from benchmarks.workers import WORKERS

MACHINE = {"cores": 2, "python": "3.11", "kernel": "6.1", "load": 1.0}


def result(key: str, *runs: dict[str, Figures]) -> Result:
    return Result(key, "2026-01-01 00:00", MACHINE, {}, asdict(Setting()), runs)


def rates(ours: float, limit: float) -> dict[str, Figures]:
    return {OURS: {"rate": ours}, LIMIT: {"rate": limit}}


THREE = result("a-120", rates(30_000, 40_000), rates(10_000, 50_000), rates(40_000, 40_000))


def test_every_worker_of_a_scene_exists() -> None:
    assert {name for scene in SCENES for name in scene.workers} <= WORKERS.keys()


def test_a_table_shows_medians_spreads_and_ratios_within_each_run() -> None:
    text = report({"a-120": THREE})
    assert "| callboard | 30,000 | 10,000 to 40,000 | – | – | 0.75 | 1.0 × |" in text
    assert "| bare socket | 40,000 | 40,000 to 50,000 | – | – | 1.00 | 0.8 × |" in text


def test_a_target_is_met_missed_or_not_measured() -> None:
    rows = {row.split("|")[2].strip(): row for row in report({"a-120": THREE}).splitlines()
            if row.startswith("| a-120")}  # fmt: skip
    assert rows["≥ 0.75 × bare socket"].endswith("| 0.75 | met |")
    assert rows["≥ 7 × FastStream"].endswith("| – | not measured |")
    assert not Target("a-120", 0.8, (LIMIT,)).met(0.75)
    assert Target("e", 10, at_most=True).met(9.0)


def test_the_best_of_several_peers_is_the_one_to_beat() -> None:
    run = {name: {"rate": rate} for name, rate in ((OURS, 30.0), ("slow", 10.0), ("quick", 20.0))}
    target = Target("c", 1.7, ("slow", "quick", "absent"))
    assert target.measured({"c": result("c", run)}) == 1.5


def test_a_worker_that_failed_in_a_run_is_left_out_of_it() -> None:
    text = report({"a-120": result("a-120", {OURS: {"rate": 1000.0}}, rates(3000, 6000))})
    assert "| callboard | 2,000 | 1,000 to 3,000 | – | – | 0.50 | 1.0 × |" in text


def test_results_are_read_as_they_were_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "HOME", tmp_path)
    save(THREE)
    assert asdict(load(tmp_path)["a-120"]) == asdict(THREE) | {"runs": list(THREE.runs)}


def test_a_plot_is_well_formed() -> None:
    svg = XML.fromstring(plot({"a-120": THREE}))
    assert "callboard" in "".join(svg.itertext())
    bars = XML.fromstring(chart({"<title>": {"callboard": 2.0, "other": 1.0}}, "callboard"))
    widths = [float(bar.attrib["width"]) for bar in bars.iter() if bar.tag.endswith("rect")]
    assert widths[0] == 2 * widths[1]


def test_a_setting_travels_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    setting = Setting(messages=5, outcomes=True)
    for name, value in setting.environment().items():
        monkeypatch.setenv(name, value)
    assert Setting.read_environment() == setting
    assert number_of(setting.body(42)) == 42
    assert len(setting.body(42)) == setting.size
