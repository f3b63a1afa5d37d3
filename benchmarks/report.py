"""Tables and a plot from the results: `python -m benchmarks.report`.

Writes what stands between the two marks in docs/performance.md, and docs/performance.svg.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping

from benchmarks.chart import chart
from benchmarks.results import Result, load
from benchmarks.scenes import LIMIT, OURS, SCENES, Scene
from benchmarks.targets import TARGETS
from benchmarks.workers import ROOT, WORKERS

PAGE = ROOT / "docs" / "performance.md"
PLOT = ROOT / "docs" / "performance.svg"
BEGIN, END = "<!-- figures -->", "<!-- end of figures -->"
PLOTTED = ("a-120", "b", "c", "d", "f")


def report(results: Mapping[str, Result]) -> str:
    """All in Markdown."""
    scenes = [scene for scene in SCENES if scene.key in results]
    parts = ["### Targets\n", *targets(results)]
    for scene in scenes:
        parts += [f"\n### ({scene.key}) {scene.title}\n", *table(scene, results[scene.key])]
    parts += ["\n### Who took part\n", *settings(results)]
    return "\n".join(parts) + "\n"


def targets(results: Mapping[str, Result]) -> Iterator[str]:
    yield "| scene | target | measured | |"
    yield "|---|---|---|---|"
    for target in TARGETS:
        measured = target.measured(results)
        if measured is None:
            yield f"| {target.scene} | {target.text()} | – | not measured |"
        else:
            outcome = "met" if target.met(measured) else "**missed**"
            machine = results[target.scene].machine
            outcome += ", busy machine" if machine["load"] > 4 * machine["cores"] else ""
            yield f"| {target.scene} | {target.text()} | {measured:.2f} | {outcome} |"


def table(scene: Scene, result: Result) -> Iterator[str]:
    """Medians and spreads; ratios are medians of those within each run."""
    yield stated(scene, result) + "\n"
    several = len(result.runs) > 1
    columns = []
    for metric in scene.metrics.values():
        columns += [metric, "least to most"] if several else [metric]
    limit = any(LIMIT in run for run in result.runs)
    ours = next((name for name in scene.workers if name.startswith(OURS)), OURS)
    only_rate = "rate" in scene.metrics
    columns += ["of the bare socket"] if limit else []
    columns += ["Callboard is"] if only_rate else []
    yield "| worker | " + " | ".join(columns) + " |"
    yield "|---" * (len(columns) + 1) + "|"
    for name in scene.workers:
        if not any(name in run for run in result.runs):
            continue
        cells = [name]
        for metric in scene.metrics:
            values = [run[name][metric] for run in result.runs if metric in run.get(name, ())]
            cells += [figure(statistics.median(values))] if values else ["–"]
            if several:
                cells += [f"{figure(min(values))} to {figure(max(values))}"] if values else ["–"]
        cells += [f"{ratio(result, name, LIMIT):.2f}"] if limit else []
        cells += [f"{ratio(result, ours, name):.1f} ×"] if only_rate else []
        yield "| " + " | ".join(cells) + " |"


def stated(scene: Scene, result: Result) -> str:
    setting, machine = scene.setting, result.machine
    parts = [f"runs: {len(result.runs)}", f"{setting.messages:,} messages",
             f"prefetch {setting.prefetch:,}", f"bulks of {setting.bulk}"]  # fmt: skip
    parts += [f"{setting.rate:g} a second"] if setting.rate else []
    return (
        f"{', '.join(parts)}. {result.date} UTC, {machine['cores']} cores, Python "
        f"{machine['python']}, Linux {machine['kernel']}, load {machine['load']}."
    )


def ratio(result: Result, name: str, other: str) -> float:
    """The median over the runs in which both took part."""
    ratios = [
        run[name]["rate"] / run[other]["rate"] for run in result.runs if {name, other} <= run.keys()
    ]
    return statistics.median(ratios) if ratios else float("nan")


def figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


def settings(results: Mapping[str, Result]) -> Iterator[str]:
    versions = {name: v for result in results.values() for name, v in result.versions.items()}
    yield "| worker | version | settings | share of the messages |"
    yield "|---|---|---|---|"
    for worker in WORKERS.values():
        version = versions.get(worker.name, "")
        yield f"| {worker.name} | {version} | {worker.stated} | {worker.share:g} |"


def plot(results: Mapping[str, Result]) -> str:
    groups = {}
    for scene in SCENES:
        if scene.key in PLOTTED and scene.key in results:
            runs = results[scene.key].runs
            groups[f"{scene.title}: {scene.metrics['rate']}"] = {
                name: statistics.median(run[name]["rate"] for run in runs if name in run)
                for name in scene.workers
                if any(name in run for run in runs)
            }
    return chart(groups, OURS)


def main() -> None:
    results = load()
    text = PAGE.read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n\n{report(results)}\n{END}{after}")
    PLOT.write_text(plot(results))


if __name__ == "__main__":
    main()
