"""What the audit log is about but must not hold: payloads with a person's data, encrypted so that they can be shredded.

An event names the digest of the *encrypted* payload. Destroying the key of a subject makes all of that subject's
payloads unreadable, copies of them as well, while the chain and every payload's digest still verify.
"""

import contextlib
import hashlib
import hmac
import os
import re
import secrets
from pathlib import Path

from palimpsest.certificates.canonical import digest
from palimpsest.certificates.files import locked, make_private, replace, write_new
from palimpsest.certificates.keys import require_cryptography
from palimpsest.disk import room_for, sync
from palimpsest.errors import DataLoss, NotFound, Reason

_KEY_BYTES = 32
_NONCE_BYTES = 12
_DESTROYED = bytes(_KEY_BYTES)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class PayloadStore:
    """Encrypted payloads in per-request folders, and one AES-256-GCM key for each subject.

    Nothing in it names a subject: a key's file is named by an HMAC under a secret of the store, and payloads do not say
    whose they are. Keep ``keys`` out of backups, or delete it there too: a copy of a key undoes its destruction, and on
    some file systems and disks so does reading the raw device.

    Parameters
    ----------
    folder
        Created with mode 0700: ``keys/`` and ``payloads/<digest of the request's name>/<digest of the payload>``.
    """

    def __init__(self, folder: Path) -> None:
        self._keys = folder / "keys"
        self._payloads = folder / "payloads"

    def put(self, request: str, subject: str, content: bytes) -> str:
        """Encrypt a payload and store it durably; returns the digest for the event.

        Equal contents have different digests, so that nobody can confirm a guess.

        Raises
        ------
        FailedPrecondition
            SERVICES_MISSING: the package cryptography is not installed.
        ResourceExhausted
            DISK_FULL.
        """
        require_cryptography()
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        with room_for("a payload of the audit log"):
            nonce = secrets.token_bytes(_NONCE_BYTES)
            sealed = nonce + AESGCM(self._key(subject)).encrypt(nonce, content, request.encode())
            found = digest(sealed)
            file = self._file(request, found)
            make_private(file.parent)
            write_new(file, sealed)
        return found

    def get(self, request: str, subject: str, payload: str) -> bytes:
        """Return a payload's content.

        Raises
        ------
        NotFound
            PAYLOAD_NOT_FOUND: no such payload; or SUBJECT_SHREDDED: its key has been destroyed.
        DataLoss
            PAYLOAD_DAMAGED: the bytes were changed, or are another subject's.
        """
        require_cryptography()
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        sealed = self._sealed(request, payload)
        key = _read(self._key_file(subject))
        if key is None:
            raise NotFound(
                Reason.SUBJECT_SHREDDED,
                "The subject's key does not exist: it was destroyed, or the subject never had a payload here.",
            )
        nonce = sealed[:_NONCE_BYTES]
        try:
            return AESGCM(key).decrypt(nonce, sealed[_NONCE_BYTES:], request.encode())
        except (InvalidTag, ValueError):
            raise _damaged(
                "cannot be decrypted with the subject's key; it may be another subject's"
            ) from None

    def check(self, request: str, payload: str) -> None:
        """Check that a stored payload has its digest, which needs no key.

        Raises
        ------
        NotFound
            PAYLOAD_NOT_FOUND.
        DataLoss
            PAYLOAD_DAMAGED.
        """
        self._sealed(request, payload)

    def shred(self, subject: str) -> bool:
        """Destroy a subject's key, and with it all that was stored of the subject; return whether there was one.

        A payload that is stored later gets a new key.
        """
        with locked(self._keys):
            file = self._key_file(subject)
            if not file.exists():
                return False
            # Overwritten before it is unlinked: whoever is killed in between has destroyed the key as well.
            with file.open("r+b", buffering=0) as key:
                key.write(_DESTROYED)
                os.fsync(key.fileno())
            file.unlink()
            sync(self._keys)
        return True

    def _sealed(self, request: str, payload: str) -> bytes:
        try:
            if not _DIGEST.fullmatch(payload):  # it becomes the name of a file
                raise FileNotFoundError
            sealed = self._file(request, payload).read_bytes()
        except FileNotFoundError:
            raise NotFound(
                Reason.PAYLOAD_NOT_FOUND,
                "The request has no such payload.",
                metadata={"payload": payload},
            ) from None
        if digest(sealed) != payload:
            raise _damaged("does not have its digest")
        return sealed

    def _file(self, request: str, payload: str) -> Path:
        folder = hashlib.sha256(request.encode()).hexdigest()
        return self._payloads / folder / payload.removeprefix("sha256:")

    def _key(self, subject: str) -> bytes:
        with locked(self._keys):
            file = self._key_file(subject)
            key = _read(file)
            if key is None:
                key = secrets.token_bytes(_KEY_BYTES)
                replace(file, key)
            return key

    def _key_file(self, subject: str) -> Path:
        names = self._keys / "names"
        if not names.exists():
            make_private(self._keys)
            with contextlib.suppress(FileExistsError):  # another process was faster
                write_new(names, secrets.token_bytes(_KEY_BYTES))
        return self._keys / hmac.new(names.read_bytes(), subject.encode(), hashlib.sha256).hexdigest()


def _read(key: Path) -> bytes | None:
    """Return a key; None for one that does not exist, or no longer."""
    try:
        found = key.read_bytes()
    except FileNotFoundError:
        return None
    return None if found == _DESTROYED else found


def _damaged(what: str) -> DataLoss:
    return DataLoss(Reason.PAYLOAD_DAMAGED, f"A payload of the audit log {what}. Restore it from a copy.")
