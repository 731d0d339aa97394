"""The issuer's folder of keys: the current one, those before it, and the list of revoked ones."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from palimpsest.certificates.files import locked, make_private, write_new
from palimpsest.certificates.keys import PublicKey, SigningKey
from palimpsest.certificates.records import time_of
from palimpsest.certificates.revocation import Revocation, RevocationList
from palimpsest.disk import sync
from palimpsest.errors import FailedPrecondition, NotFound, Reason

REVOKED = "revoked.json"
_PUBLIC = ".public.json"
_PRIVATE = ".private.json"


@dataclass(frozen=True)
class StoredKey:
    """One key of a store.

    Attributes
    ----------
    public
        Its public record.
    file
        The file with that record, to hand out.
    signs
        Whether the private half is here.
    revoked
        Its entry in the revocation list.
    """

    public: PublicKey
    file: Path
    signs: bool
    revoked: Revocation | None

    def state(self, now: datetime) -> str:
        """Return ``revoked``, ``expired``, ``future``, ``public only`` or ``usable``."""
        if self.revoked:
            return "revoked"
        if now >= time_of(self.public.expires):
            return "expired"
        if now < time_of(self.public.created):
            return "future"
        return "usable" if self.signs else "public only"


class KeyStore:
    """Keys in a folder, created with mode 0700: ``<first 16 digits of the id>.public.json`` and ``.private.json``.

    The newest usable key signs, so that making a new one is rotation: certificates of older keys stay valid until they
    expire.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def new(self, now: datetime, days: int) -> StoredKey:
        """Make a key that signs from now on for a number of days."""
        make_private(self.folder)
        key = SigningKey.generate(now, days)
        public = self._file(key.public, _PUBLIC)
        # The private half first: a public record alone would look like a key of another store.
        key.save(self._file(key.public, _PRIVATE))
        write_new(public, key.public.to_bytes(), mode=0o644)
        return StoredKey(key.public, public, True, None)

    def stored(self) -> list[StoredKey]:
        """Return the keys, oldest first.

        Raises
        ------
        InvalidArgument
            NOT_CANONICAL, RECORD_INVALID or KEY_INVALID: a file is damaged.
        """
        revoked = RevocationList.load(self.folder / REVOKED)
        found = []
        for file in self.folder.glob(f"*{_PUBLIC}"):
            key = PublicKey.read(file.read_bytes())
            signs = self._file(key, _PRIVATE).exists()
            found.append(StoredKey(key, file, signs, revoked.find(key.id)))
        return sorted(found, key=lambda stored: (stored.public.created, stored.public.id))

    def signing(self, now: datetime) -> SigningKey:
        """Return the key to sign with: the newest that is usable.

        Raises
        ------
        FailedPrecondition
            KEY_MISSING: there is none.
        """
        usable = [stored for stored in self.stored() if stored.state(now) == "usable"]
        if not usable:
            raise FailedPrecondition(
                Reason.KEY_MISSING,
                f"{self.folder} has no key that can sign now. Make one: palimpsest unlearn keys new --folder FOLDER.",
            )
        return SigningKey.load(self._file(usable[-1].public, _PRIVATE))

    def revoke(self, id: str, reason: str, now: datetime) -> StoredKey:
        """Revoke a key, named by its id or the first digits of it, and destroy its private half.

        Raises
        ------
        NotFound
            KEY_NOT_FOUND: no key, or more than one, has such an id.
        InvalidArgument
            RECORD_INVALID: the reason is not one word.
        """
        digits = id.removeprefix("sha256:")
        found = [key for key in self.stored() if digits and key.public.id[7:].startswith(digits)]
        if len(found) != 1:
            raise NotFound(
                Reason.KEY_NOT_FOUND,
                f"{self.folder} has {len(found)} keys whose id begins with {digits!r}. List them: palimpsest unlearn "
                "keys list.",
            )
        (key,) = found
        revoked = self._list(key.public.id, reason, now)
        self._file(key.public, _PRIVATE).unlink(missing_ok=True)
        sync(self.folder)
        return StoredKey(key.public, key.file, False, revoked.find(key.public.id))

    def revoke_certificate(self, statement: str, reason: str, now: datetime) -> None:
        """Put a certificate on the list, by the digest of its statement.

        Raises
        ------
        InvalidArgument
            RECORD_INVALID: the reason is not one word.
        """
        self._list(statement, reason, now)

    def _list(self, id: str, reason: str, now: datetime) -> RevocationList:
        with locked(self.folder):
            revoked = RevocationList.load(self.folder / REVOKED).adding(id, reason, now)
            revoked.save(self.folder / REVOKED)
        return revoked

    def _file(self, key: PublicKey, ending: str) -> Path:
        return self.folder / f"{key.id[7:23]}{ending}"
