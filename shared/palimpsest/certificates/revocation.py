"""The revocation list: keys and certificates that are no longer to be believed, whatever their signatures say."""

from datetime import datetime
from pathlib import Path
from typing import Self

from palimpsest.certificates.files import replace
from palimpsest.certificates.records import Digest, Name, Record, Time, Version, time_text

LARGEST_FILE = 1 << 24


class Revocation(Record):
    """One entry: the id of a key or the digest of a certificate's statement, since when, and why, in a word."""

    id: Digest
    time: Time
    reason: Name


class RevocationList(Record):
    """The list as a file holds it, oldest entry first.

    It is not signed: a stolen key could sign a list without itself. Get it as you get public keys: by a way that you
    trust.
    """

    version: Version
    revoked: list[Revocation]

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a list; an empty one if there is no file.

        Raises
        ------
        InvalidArgument
            NOT_CANONICAL or RECORD_INVALID: the file is damaged.
        """
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return cls(version=1, revoked=[])
        return cls.parse(data, max_bytes=LARGEST_FILE)

    def find(self, id: str) -> Revocation | None:
        """Return the entry of a key or certificate."""
        return next((entry for entry in self.revoked if entry.id == id), None)

    def adding(self, id: str, reason: str, now: datetime) -> "RevocationList":
        """Return the list with one more entry; the same list if the id is in it."""
        if self.find(id):
            return self
        entry = Revocation.of({"id": id, "time": time_text(now), "reason": reason})
        return RevocationList(version=1, revoked=[*self.revoked, entry])

    def save(self, path: Path) -> None:
        """Replace the file atomically and durably; everybody may read it."""
        replace(path, self.to_bytes(), mode=0o644)
