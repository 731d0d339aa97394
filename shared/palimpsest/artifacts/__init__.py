"""Artefacts: immutable bytes named by their SHA-256 digest and verified on every read."""

from palimpsest.artifacts.digests import CHUNK_BYTES, hex_of
from palimpsest.artifacts.garbage import GarbageReport
from palimpsest.artifacts.info import ArtifactInfo
from palimpsest.artifacts.references import References
from palimpsest.artifacts.staging import ArtifactWriter
from palimpsest.artifacts.store import ArtifactStore
from palimpsest.artifacts.upload_catalogue import WriteStatus
from palimpsest.artifacts.upload_session import UploadSession, UploadSpec
from palimpsest.artifacts.view import ArtifactView

__all__ = [
    "CHUNK_BYTES",
    "ArtifactInfo",
    "ArtifactStore",
    "ArtifactView",
    "ArtifactWriter",
    "GarbageReport",
    "References",
    "UploadSession",
    "UploadSpec",
    "WriteStatus",
    "hex_of",
]
