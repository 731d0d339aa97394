"""Ed25519 keys that sign certificates and checkpoints: the public record, and the private half in a file of its own."""

import os
import stat
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import StringConstraints

from palimpsest.certificates.files import write_new
from palimpsest.certificates.records import Digest, Record, Time, Version, time_of, time_text
from palimpsest.errors import FailedPrecondition, InvalidArgument, Reason

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

LARGEST_FILE = 1 << 16
_Bytes32 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class PublicKey(Record):
    """What a verifier needs of a key; hand it out by a way that the verifier trusts.

    Attributes
    ----------
    algorithm
        Ed25519 (RFC 8032).
    created, expires
        It signs from the first time on and before the second.
    public
        32 bytes in hexadecimal.
    id
        SHA-256 of the canonical JSON of the other fields: a fingerprint of the key and of its period, so that neither
        can be changed under the id that certificates name.
    """

    version: Version
    algorithm: Literal["Ed25519"]
    created: Time
    expires: Time
    public: _Bytes32
    id: Digest

    @classmethod
    def read(cls, data: bytes) -> Self:
        """Read a public key file, and check that it has the id that it names.

        Raises
        ------
        InvalidArgument
            NOT_CANONICAL, RECORD_INVALID or KEY_INVALID: damaged or changed.
        """
        key = cls.parse(data, max_bytes=LARGEST_FILE)
        if key.fingerprint("id") != key.id:
            raise InvalidArgument(
                Reason.KEY_INVALID,
                "The key's content does not have its id: the file is damaged or was changed.",
            )
        return key

    def covers(self, start: datetime, end: datetime) -> bool:
        """Return whether a period lies within the key's own."""
        return time_of(self.created) <= start and end <= time_of(self.expires)

    def verifies(self, signature: str, message: bytes) -> bool:
        """Return whether a signature, in hexadecimal, is this key's of the message."""
        require_cryptography()
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        try:
            key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(self.public))
            key.verify(bytes.fromhex(signature), message)
        except (InvalidSignature, ValueError):
            return False
        return True


class _PrivateFile(Record):
    key: PublicKey
    private: _Bytes32


class SigningKey:
    """A key with its private half; make one with ``generate``, read one with ``load``."""

    def __init__(self, public: PublicKey, private: "Ed25519PrivateKey") -> None:
        self.public = public
        self._private = private

    def __repr__(self) -> str:
        return f"SigningKey({self.public.id})"

    @classmethod
    def generate(cls, now: datetime, days: int) -> Self:
        """Make a new key that signs for a number of days from now."""
        require_cryptography()
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        private = Ed25519PrivateKey.generate()
        fields = {
            "version": 1,
            "algorithm": "Ed25519",
            "created": time_text(now),
            "expires": time_text(now + timedelta(days=days)),
            "public": private.public_key().public_bytes_raw().hex(),
        }
        unnamed = PublicKey.of({**fields, "id": "sha256:" + "0" * 64})
        return cls(PublicKey.of({**fields, "id": unnamed.fingerprint("id")}), private)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a private key file.

        Raises
        ------
        FailedPrecondition
            KEY_INVALID: others than the owner may read or write the file, or its two halves do not belong together.
        InvalidArgument
            NOT_CANONICAL, RECORD_INVALID or KEY_INVALID: the file is damaged.
        FileNotFoundError
            The file does not exist.
        """
        require_cryptography()
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if mode & 0o077:
                raise FailedPrecondition(
                    Reason.KEY_INVALID,
                    f"{path} has mode {mode:04o}, so that others can read or change the private key. Run chmod 600 on "
                    "it; if they may have read it, revoke the key.",
                )
            found = _PrivateFile.parse(file.read(LARGEST_FILE + 1), max_bytes=LARGEST_FILE)
        public = PublicKey.read(found.key.to_bytes())
        private = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(found.private))
        if private.public_key().public_bytes_raw().hex() != public.public:
            raise FailedPrecondition(
                Reason.KEY_INVALID, f"{path} holds a private key that does not belong to its public key."
            )
        return cls(public, private)

    def save(self, path: Path) -> None:
        """Write the private key file, with mode 0600; an existing file is left alone (FileExistsError)."""
        found = _PrivateFile(key=self.public, private=self._private.private_bytes_raw().hex())
        write_new(path, found.to_bytes(), mode=0o600)

    def sign(self, message: bytes) -> str:
        """Return the signature of a message, in hexadecimal."""
        return self._private.sign(message).hex()


def require_cryptography() -> None:
    """Check that the package that signs and encrypts is there.

    Raises
    ------
    FailedPrecondition
        SERVICES_MISSING.
    """
    try:
        import cryptography  # noqa: F401
    except ImportError:
        raise FailedPrecondition(
            Reason.SERVICES_MISSING,
            "Signatures need the package cryptography, which is not installed here: pip install cryptography.",
        ) from None
