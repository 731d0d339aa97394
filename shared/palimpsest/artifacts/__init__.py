"""Artefacts: immutable bytes named by their SHA-256 digest, verified whenever they are read."""

from palimpsest.artifacts.collection import Collected
from palimpsest.artifacts.digests import CHUNK_BYTES, hex_of
from palimpsest.artifacts.info import ArtifactInfo
from palimpsest.artifacts.references import References
from palimpsest.artifacts.staging import ArtifactWriter
from palimpsest.artifacts.store import ArtifactStore
from palimpsest.artifacts.upload import Announced, Upload
from palimpsest.artifacts.uploads import WriteStatus

__all__ = [
    "CHUNK_BYTES",
    "Announced",
    "ArtifactInfo",
    "ArtifactStore",
    "ArtifactWriter",
    "Collected",
    "References",
    "Upload",
    "WriteStatus",
    "hex_of",
]
