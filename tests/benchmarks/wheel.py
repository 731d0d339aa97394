"""A wheel in empty environments: what the client alone takes on disk, and whether `[all]` serves and runs the tour.

``python -m tests.benchmarks.wheel`` makes two virtual environments in a scratch folder, which takes some 4 GB there,
installs the wheel into them from the package index with the pinned versions, and runs what a new user types, away from
the checkout. It takes about fifteen minutes on two cores.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.benchmarks.figures import ROOT, Figures
from tests.wheels import built

TOOLS = {"pip", "setuptools", "pkg_resources", "_distutils_hack"}
"""What every new environment has; not the wheel's."""
HEAVY = ("torch", "numpy", "celery", "redis", "transformers")


class Environment:
    """A new virtual environment, and commands in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        kept = {
            k: v for k, v in os.environ.items() if not k.startswith(("PALIMPSEST_", "PYTHON", "VIRTUAL_ENV"))
        }
        state = {"PALIMPSEST_STATE_DIR": str(folder / "state"), "PALIMPSEST_LISTEN": "127.0.0.1:0"}
        self.environment = kept | state | {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}"}

    @property
    def packages(self) -> Path:
        """Where pip puts what it installs."""
        return next((self.folder / "lib").glob("python3.*")) / "site-packages"

    def run(self, *words: str) -> tuple[int, float, str]:
        """Run a command in the environment's folder; return exit status, seconds and what it said."""
        began = time.perf_counter()
        done = subprocess.run(words, cwd=self.folder, env=self.environment, capture_output=True, text=True)
        said = done.stdout + done.stderr
        if done.returncode:
            sys.stderr.write(f"{' '.join(words)} ended with {done.returncode}:\n{said[-4000:]}\n")
        return done.returncode, time.perf_counter() - began, said

    def install(self, what: str) -> int:
        """Install with the pinned versions."""
        pinned = str(ROOT / "deploy" / "constraints.txt")
        return self.run("python", "-m", "pip", "install", "-q", "-c", pinned, what)[0]


def megabytes(packages: Path) -> float:
    """Bytes of the files below a folder but for pip's own, bytecode included, in units of 10^6."""
    files = (f for f in packages.rglob("*") if f.is_file() and not f.is_symlink())
    return sum(f.stat().st_size for f in files if f.relative_to(packages).parts[0] not in TOOLS) / 1e6


def client_alone(figures: Figures, wheel: Path, folder: Path) -> None:
    """Install the wheel without extras; look at what came with it, and that it says what it lacks."""
    alone = Environment(folder)
    installed = alone.install(str(wheel))
    imported = alone.run(
        "python", "-c", "from palimpsest import Client, AsyncClient; Client('127.0.0.1:1').close()"
    )[0]
    doctor, _, said = alone.run("palimpsest", "doctor")
    figures.gate(
        "the client alone: install, import, doctor, exit status", "== 0", installed + imported + doctor
    )
    figures.gate("the client alone: MB", "<= 70", megabytes(alone.packages))
    figures.gate(
        "the client alone: heavy packages", "== 0", sum((alone.packages / p).exists() for p in HEAVY)
    )
    figures.gate("its advice names make", "== 0", said.count("make install"))


def everything(figures: Figures, wheel: Path, folder: Path) -> None:
    """Install `[all]`; start a stack, look at it, stop it; run the tour."""
    whole = Environment(folder)
    figures.gate("everything: install, exit status", "== 0", whole.install(f"{wheel}[all]"))
    figures.figure("everything: MB", megabytes(whole.packages))
    for words in (["up", "--detach"], ["health"], ["doctor"], ["down"], ["demo"]):
        code, seconds, said = whole.run("palimpsest", *words)
        figures.gate(f"everything: palimpsest {' '.join(words)}, exit status", "== 0", code)
        figures.figure(f"palimpsest {' '.join(words)}: seconds", seconds)
        if words == ["doctor"]:
            figures.gate("everything: its advice names make", "== 0", said.count("make install"))


def main() -> None:
    """Measure and write the figures."""
    figures = Figures("wheel")
    with tempfile.TemporaryDirectory(prefix="palimpsest-wheel-") as scratch:
        wheel = built(Path(scratch))
        figures.figure("the wheel: MB", wheel.stat().st_size / 1e6)
        client_alone(figures, wheel, Path(scratch) / "client")
        everything(figures, wheel, Path(scratch) / "all")
    figures.write()


if __name__ == "__main__":
    main()
