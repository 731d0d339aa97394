"""What decoding compiles is compiled before the first chunk comes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]

CODE = """
import gc, json
from numba.core.registry import CPUDispatcher
from palimpsest.client.decoder import load_codec
from palimpsest.kv import ChunkReader
from tests.unit.kv.goldens import FOLDER, VERSION, golden_profile

def ours():
    found = (each for each in gc.get_objects() if isinstance(each, CPUDispatcher) and each.signatures)
    kinds = {f"{each.py_func.__module__}.{each.py_func.__qualname__}": len(each.signatures) for each in found}
    return {name: count for name, count in kinds.items() if name.startswith("palimpsest.")}

load_codec()
before, profile = ours(), golden_profile()
for path in sorted((FOLDER / VERSION).glob("*.plkv")):
    data, reader = path.read_bytes(), ChunkReader(profile=profile)
    for at in range(0, len(data), 500):
        list(reader.feed(data[at : at + 500]))
    reader.finish()
print(json.dumps([before, ours()]))
"""


def test_no_chunk_of_any_coder_compiles_anything():
    pytest.importorskip("numba", reason="without numba nothing is compiled")
    run = subprocess.run([sys.executable, "-c", CODE], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    before, after = json.loads(run.stdout)
    assert len(before) == 3
    assert after == before
