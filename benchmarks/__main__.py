"""All benchmarks, one after the other: `python -m benchmarks`."""

from __future__ import annotations

import subprocess
import sys

PROGRAMS = ("throughput", "io_model", "memory", "sse_parser")

for program in PROGRAMS:
    sys.stdout.write(f"\n## {program}\n\n")
    sys.stdout.flush()
    subprocess.run([sys.executable, "-m", f"benchmarks.{program}"], check=True)
