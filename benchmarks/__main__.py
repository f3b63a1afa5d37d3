"""Callboard beside its peers and beside the limit: `python -m benchmarks`, or `make bench`.

    python -m benchmarks [--scene a-120 b …] [--runs 5] [--only callboard aio-pika …]

In each run all workers of a scene take turns. Peers run in environments of their own, made on
first use; RabbitMQ and Redis are private. The figures go to benchmarks/results/, unless only
some workers took part, and from there to docs/performance.md.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence

from benchmarks import report
from benchmarks.places import Places
from benchmarks.results import result_of, save
from benchmarks.runner import running
from benchmarks.scenes import SCENES, Figures, Scene
from benchmarks.workers import WORKERS


def main() -> None:
    options = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was started is ended
    scenes = [s for s in SCENES if not options.scene or {s.key, s.key[0]} & {*options.scene}]
    with Places() as places:
        for scene in scenes:
            names = [name for name in scene.workers if not options.only or name in options.only]
            say(f"\n## ({scene.key}) {scene.title}\n")
            runs = [play(places, scene, names) for _ in range(options.runs)]
            result = result_of(scene, runs)
            say("\n".join(report.table(scene, result)))
            if not options.only:
                save(result)
    if not options.only:
        report.main()


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scene", nargs="*", default=[], help="keys, or their first letter")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--only", nargs="*", default=[], choices=WORKERS, metavar="WORKER")
    return parser.parse_args()


def play(places: Places, scene: Scene, names: Sequence[str]) -> dict[str, Figures]:
    """One run: each worker once. One that fails is told of and left out."""
    figures: dict[str, Figures] = {}
    for name in names:
        worker = WORKERS[name]
        try:
            with running(places, worker, scene.setting.shared(worker.share)) as run:
                figures[name] = scene.measure(run)
        except (TimeoutError, OSError) as error:
            say(f"{name} failed: {error}")
        else:
            told = ", ".join(
                f"{label} {figures[name][key]:,.4g}" for key, label in scene.metrics.items()
            )
            say(f"{name}: {told}")
    return figures


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
