"""Compiled functions run whether or not the disk has room for their machine code."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.disks import small_disk

ROOT = Path(__file__).parents[2]
PROGRAM = """
import numpy as np
from palimpsest.ngrams.kernels import _first
print(_first(np.arange(10), 0, 10, 7))
"""


@pytest.mark.parametrize("pages", [0, 1, 100])
def test_a_full_disk_costs_a_compilation_and_no_call(tmp_path: Path, pages: int):
    with small_disk(tmp_path / "disk", 1) as disk:
        disk.fill(pages * os.sysconf("SC_PAGE_SIZE"))
        environment = {"NUMBA_CACHE_DIR": str(disk.root / "cache"), "PYTHONPATH": str(ROOT / "shared")}
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM], env=os.environ | environment, capture_output=True, text=True
        )
        assert (done.stdout, done.returncode) == ("7\n", 0), done.stderr
        kept = {path.suffix for path in disk.content() if path.stat().st_size}
        assert kept == ({".nbi", ".nbc"} if pages == 100 else kept - {".nbc"})
