"""A wheel of this checkout, built and unpacked without an index."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def built(folder: Path) -> Path:
    """Build the wheel into a folder; return its file."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=120)
    (wheel,) = folder.glob("*.whl")
    return wheel


def unpacked(wheel: Path, folder: Path) -> Path:
    """Unpack a wheel, which is all that pip does with one that is pure Python."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def environment(*path: Path) -> dict[str, str]:
    """Return an environment in which these folders come before the checkout."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PALIMPSEST_")}
    return kept | {"PYTHONPATH": os.pathsep.join(map(str, path))}
