"""Calibration profiles that were fetched before: a few in memory, all on disk, named and checked by their digest."""

import hashlib
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs

from palimpsest.lru import LruCache

if TYPE_CHECKING:
    from palimpsest.kv import CalibrationProfile

_HELD = 4
"""Profiles in memory; each takes up to a tenth of its model's weights."""

_held: "LruCache[str, CalibrationProfile]" = LruCache(_HELD)


def folder() -> Path:
    """Return where profiles are kept; any of them may be deleted at any time."""
    return Path(platformdirs.user_cache_dir("palimpsest")) / "profiles"


def find(digest: str) -> "CalibrationProfile | None":
    """Return a profile from memory or disk; None if it has to be fetched."""
    held = _held.get(digest)
    if held is not None:
        return held
    with suppress(OSError):
        data = (folder() / digest.removeprefix("sha256:")).read_bytes()
        if f"sha256:{hashlib.sha256(data).hexdigest()}" == digest:
            return _hold(digest, data)
    return None


def keep(digest: str, data: bytes) -> "CalibrationProfile":
    """Keep a profile that was fetched, and checked, under its digest; return it."""
    # A disk that is full or read-only costs the next process a download, and this one nothing.
    with suppress(OSError):
        folder().mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=".", suffix=".part", dir=folder())
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
            os.replace(name, folder() / digest.removeprefix("sha256:"))
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    return _hold(digest, data)


def _hold(digest: str, data: bytes) -> "CalibrationProfile":
    from palimpsest.kv import CalibrationProfile

    return _held.put(digest, CalibrationProfile.from_bytes(data))
