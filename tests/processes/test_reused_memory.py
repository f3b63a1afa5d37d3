"""What large messages took is kept for the next ones."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PROGRAM = """
import resource
from actors.stages.thespian.processes import reuse_memory

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

reuse_memory()
for _ in range(2):
    before = faults()
    blocks = [bytes(16 * 1024 * 1024 - 100).replace(b"\\0", b"x") for _ in range(2)]
    del blocks
    print(faults() - before)
"""


@pytest.mark.skipif("CS_GNU_LIBC_VERSION" not in os.confstr_names, reason="it is of glibc")
def test_large_blocks_that_were_freed_are_used_again_without_a_page_fault() -> None:
    told = subprocess.check_output([sys.executable, "-c", PROGRAM], text=True)
    first, second = map(int, told.split())
    pages = 2 * 16 * 1024 * 1024 // os.sysconf("SC_PAGE_SIZE")
    assert first > pages // 2
    assert second < pages // 100
