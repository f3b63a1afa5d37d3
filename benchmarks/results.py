"""Figures as JSON, one file for each scene, with what machine and versions they are from."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.scenes import Figures, Scene
from benchmarks.workers import WORKERS

HOME = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Result:
    """All runs of a scene: in each, figures by worker; one that failed is not there."""

    scene: str
    date: str
    machine: dict[str, Any]
    versions: dict[str, str]
    setting: dict[str, Any]
    runs: Sequence[dict[str, Figures]]


def result_of(scene: Scene, runs: Sequence[dict[str, Figures]]) -> Result:
    return Result(
        scene.key,
        datetime.now(UTC).strftime("%Y-%m-%d %H:%M"),
        machine(),
        {n: WORKERS[n].version() for run in runs for n in run if WORKERS[n].shows},
        asdict(scene.setting),
        [{name: rounded(own) for name, own in run.items()} for run in runs],
    )


def machine() -> dict[str, Any]:
    """What the figures depend on; nothing that names the host."""
    return {
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "kernel": platform.release().partition("-")[0],
        "load": round(os.getloadavg()[2], 1),  #: of the last 15 minutes, this included
    }


def rounded(figures: Figures) -> Figures:
    return {name: float(f"{figure:.4g}") for name, figure in figures.items()}


def save(result: Result) -> None:
    HOME.mkdir(exist_ok=True)
    (HOME / f"{result.scene}.json").write_text(json.dumps(asdict(result), indent=1) + "\n")


def load(home: Path = HOME) -> dict[str, Result]:
    """By scene, as far as there are any."""
    files = sorted(home.glob("*.json"))
    return {file.stem: Result(**json.loads(file.read_text())) for file in files}
