"""The whole pipeline beside the bare socket and pika alone, in one run, alternating.

    python -m benchmarks.pipeline [--messages 50000] [--runs 5]

The pipeline is `callboard run` with a handler that does nothing, bulks of 256: launcher,
supervisors, connection, batcher and one handler process. Its time is from the first bulk
to the last; the others' from the first message to the last.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.io_model import Bench, bare_socket, benchmark, pika_alone, say


def callboard(bench: Bench, prefetch: int) -> float:
    """Run the real program on the queue until it is empty."""
    with tempfile.TemporaryDirectory() as directory:
        report = Path(directory) / "report.json"
        url = f"amqp://guest:guest@127.0.0.1:{bench.broker.port}/{bench.vhost}"
        environment = os.environ | {
            "NOOP_REPORT": str(report),
            "CALLBOARD_STATE_DIR": directory,
            "CALLBOARD_RUNTIME_DIR": f"{directory}/run",
        }
        command = [sys.executable, "-m", "actors", "run", "benchmarks.noop:app", "--burst"]
        with (Path(directory) / "log").open("wb") as log:
            subprocess.run(
                [*command, "--connection", url, "--prefetch", str(prefetch)],
                env=environment, stdout=log, stderr=log, check=True, timeout=300,
            )  # fmt: skip
        told = json.loads(report.read_text())
        assert told["count"] == bench.messages, told
        return float(told["last"] - told["first"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=50_000)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    candidates: dict[str, Callable[[Bench], float]] = {
        "bare socket": lambda bench: bare_socket(bench, False),
        "pika alone, ack each 256th": lambda bench: pika_alone(bench, False),
        "callboard, prefetch 512": lambda bench: callboard(bench, 512),
        "callboard, prefetch 2048": lambda bench: callboard(bench, 2048),
    }
    rates: dict[str, list[float]] = {name: [] for name in candidates}
    with benchmark(options.messages) as bench:
        for run in range(options.runs):
            for name, candidate in candidates.items():
                bench.fill()
                rates[name].append(options.messages / candidate(bench))
                say(f"{run + 1} {name}: {rates[name][-1]:,.0f}/s")
    say("| candidate | messages/s (median) | least to most | of the bare socket | of pika |")
    say("|---|---|---|---|---|")
    limit, pika = list(rates.values())[:2]
    for name, own in rates.items():
        shares = [statistics.median(a / b for a, b in zip(own, other, strict=True))
                  for other in (limit, pika)]  # fmt: skip
        say(
            f"| {name} | {statistics.median(own):,.0f} | {min(own):,.0f} to {max(own):,.0f} "
            f"| {shares[0]:.2f} | {shares[1]:.2f} |"
        )


if __name__ == "__main__":
    main()
