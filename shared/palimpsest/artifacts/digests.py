"""Digests, which are the only names of artefacts, and the running hashes that compute them."""

import hashlib
import re
from dataclasses import dataclass

from palimpsest.errors import InvalidArgument, Reason

CHUNK_BYTES = 1 << 20
"""Bytes of a chunk, both on the wire and as the unit of verification of a stored blob."""

DIGEST_BYTES = hashlib.sha256().digest_size
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def hex_of(digest: str) -> str:
    """Return the 64 hexadecimal digits of a digest; safe as a file name for any input.

    Raises
    ------
    InvalidArgument
        DIGEST_INVALID: not ``sha256:`` and 64 lower-case hexadecimal digits.
    """
    if not _DIGEST.fullmatch(digest):
        message = f"{digest[:100]!r} is not a digest. Use sha256: and 64 lower-case hexadecimal digits."
        raise InvalidArgument.field(Reason.DIGEST_INVALID, "digest", message)
    return digest.removeprefix("sha256:")


@dataclass(frozen=True)
class Hashes:
    """The hashes of some bytes.

    Attributes
    ----------
    digest
        ``sha256:<hex>`` of all bytes.
    chunks
        SHA-256 of each chunk of CHUNK_BYTES, 32 bytes each, concatenated; the last chunk may be shorter.
    size_bytes
        Number of bytes.
    """

    digest: str
    chunks: bytes
    size_bytes: int


class RunningHash:
    """Hashes a stream of bytes: all of it, and each aligned chunk, whatever the sizes of the updates."""

    def __init__(self) -> None:
        self.size_bytes = 0
        self._whole = hashlib.sha256()
        self._chunk = hashlib.sha256()
        self._chunks = bytearray()

    def update(self, data: bytes | memoryview) -> None:
        """Hash the next bytes."""
        self._whole.update(data)
        rest = memoryview(data)
        while rest:
            room = CHUNK_BYTES - self.size_bytes % CHUNK_BYTES
            part, rest = rest[:room], rest[room:]
            self._chunk.update(part)
            self.size_bytes += len(part)
            if len(part) == room:
                self._chunks += self._chunk.digest()
                self._chunk = hashlib.sha256()

    def hashes(self) -> Hashes:
        """The hashes of the bytes so far."""
        tail = self._chunk.digest() if self.size_bytes % CHUNK_BYTES else b""
        return Hashes(f"sha256:{self._whole.hexdigest()}", bytes(self._chunks) + tail, self.size_bytes)
