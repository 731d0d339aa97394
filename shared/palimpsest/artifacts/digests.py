"""Digests: the only names artefacts have, and the running hashes that make them."""

import hashlib
import re
from dataclasses import dataclass

from palimpsest.errors import InvalidArgument, Reason

CHUNK_BYTES = 1 << 20
"""Bytes in one chunk on the wire, and in one separately checked piece of a stored blob."""

DIGEST_BYTES = hashlib.sha256().digest_size
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def hex_of(digest: str) -> str:
    """Return the 64 hexadecimal digits of a digest: safe as a file name, whatever the caller sent.

    Raises
    ------
    InvalidArgument
        DIGEST_INVALID: not ``sha256:`` and 64 lower-case hexadecimal digits.
    """
    if not _DIGEST.fullmatch(digest):
        message = "An artefact is named by its digest, sha256:<64 lower-case hexadecimal digits>."
        raise InvalidArgument.field(Reason.DIGEST_INVALID, "digest", message)
    return digest.removeprefix("sha256:")


@dataclass(frozen=True)
class Hashes:
    """What identifies a run of bytes.

    Attributes
    ----------
    digest
        ``sha256:<hex>`` of all of it.
    pieces
        SHA-256 of each CHUNK_BYTES of it, 32 bytes each, joined; the last piece may be shorter.
    size_bytes
        How many bytes there are.
    """

    digest: str
    pieces: bytes
    size_bytes: int


class RunningHash:
    """Hashes bytes as they pass: the whole, and each aligned piece, however the writes are cut."""

    def __init__(self) -> None:
        self.size_bytes = 0
        self._whole = hashlib.sha256()
        self._piece = hashlib.sha256()
        self._pieces = bytearray()

    def update(self, data: bytes | memoryview) -> None:
        """Take the next bytes."""
        self._whole.update(data)
        rest = memoryview(data)
        while rest:
            room = CHUNK_BYTES - self.size_bytes % CHUNK_BYTES
            part, rest = rest[:room], rest[room:]
            self._piece.update(part)
            self.size_bytes += len(part)
            if len(part) == room:
                self._pieces += self._piece.digest()
                self._piece = hashlib.sha256()

    def hashes(self) -> Hashes:
        """What has passed so far."""
        tail = self._piece.digest() if self.size_bytes % CHUNK_BYTES else b""
        return Hashes(f"sha256:{self._whole.hexdigest()}", bytes(self._pieces) + tail, self.size_bytes)
