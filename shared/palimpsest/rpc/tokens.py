"""The tokens file: read again when it changes; a version that is damaged changes nothing."""

import hashlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from palimpsest import json_input
from palimpsest.errors import FailedPrecondition, Reason

_log = structlog.get_logger(__name__)

_LARGEST_FILE = 16 << 20
_LONGEST_NAME = 128
_FIELDS = frozenset({"name", "sha256", "scopes", "expires"})


@dataclass(frozen=True, slots=True)
class Token:
    """One accepted token.

    Attributes
    ----------
    name
        Of its principal.
    sha256
        As ``hash_token`` gives it.
    scopes
        Patterns of the scopes it grants.
    expires
        Unix time in seconds; None: never.
    """

    name: str
    sha256: str
    scopes: tuple[str, ...]
    expires: float | None

    @property
    def expired(self) -> bool:
        """Whether its time is over."""
        return self.expires is not None and self.expires < time.time()


def hash_token(token: str) -> str:
    """Return what a tokens file holds for a token: the SHA-256 of its UTF-8 bytes, in hexadecimal.

    Tokens are random and long (``palimpsest`` makes them with 256 bits), so a slow hash adds nothing.
    """
    return hashlib.sha256(token.encode()).hexdigest()


class TokensFile:
    """The tokens of a file, which may be replaced or edited at any time.

    A version that cannot be used as a whole (half written, missing, unreadable, an entry of the wrong type) is logged
    once, and the last good one stays in force: neither does everybody lose access, nor does anybody gain it.

    Parameters
    ----------
    path
        JSON: ``{"tokens": [{"name": "alice", "sha256": "...", "scopes": ["decoding.*"], "expires": 1790000000}]}``.
        ``scopes`` (default: none) and ``expires`` (default: never; so is null) may be left out.

    Raises
    ------
    FailedPrecondition
        TOKENS_FILE: there is no good version yet, so that a server must not start.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._version = self._look()
        try:
            self._tokens = self._read()
        except ValueError as error:
            message = f"The tokens file {path} cannot be used: {error}. Correct it and start again."
            raise FailedPrecondition(Reason.TOKENS_FILE, message) from None

    def tokens(self) -> tuple[Token, ...]:
        """The tokens in force."""
        version = self._look()
        if version != self._version:
            self._version = version
            try:
                self._tokens = self._read()
                _log.info("tokens file read", file=str(self._path), tokens=len(self._tokens))
            except ValueError as error:
                _log.error(
                    "tokens file refused: the last good one stays in force",
                    file=str(self._path),
                    problem=str(error),
                    tokens=len(self._tokens),
                )
        return self._tokens

    def _look(self) -> tuple[int, ...] | str:
        """What changes with the file: its times (a change of rights has only the second), size and inode."""
        try:
            stat = self._path.stat()
        except OSError as error:
            return str(error)
        return stat.st_mtime_ns, stat.st_ctime_ns, stat.st_size, stat.st_ino

    def _read(self) -> tuple[Token, ...]:
        """Read the file; ValueError says what is wrong with it."""
        try:
            document = json_input.read(self._path, max_bytes=_LARGEST_FILE)
        except OSError as error:
            raise ValueError(f"it cannot be read: {error.strerror}") from None
        except json_input.InvalidJson as error:
            raise ValueError(f"it is not JSON: {error}") from None
        entries = document.get("tokens") if isinstance(document, dict) else None
        if not isinstance(entries, list):
            raise ValueError('it is not an object with a list "tokens"')
        tokens: dict[str, Token] = {}
        for index, entry in enumerate(entries):
            token = _token(entry, f"tokens[{index}]")
            if token.sha256 in tokens:
                raise ValueError(
                    f"tokens[{index}] has the hash of an earlier one, {tokens[token.sha256].name!r}"
                )
            tokens[token.sha256] = token
        return tuple(tokens.values())


def _token(entry: Any, place: str) -> Token:
    """Read one entry; ValueError says what is wrong with it."""
    if not isinstance(entry, dict):
        raise ValueError(f"{place} is not an object")
    unknown = sorted(entry.keys() - _FIELDS)
    if unknown:  # a misspelt "expires" would make a token that never expires
        raise ValueError(f"{place} has a field {unknown[0]!r}; there are {', '.join(sorted(_FIELDS))}")
    name, digest, expires = entry.get("name"), entry.get("sha256"), entry.get("expires")
    if not isinstance(name, str) or name != name.strip() or not 0 < len(name) <= _LONGEST_NAME:
        raise ValueError(
            f"{place}.name must be a text of 1 to {_LONGEST_NAME} characters without blanks around it"
        )
    if not name.isprintable():
        raise ValueError(f"{place}.name holds a character that cannot be printed")
    if not isinstance(digest, str) or len(digest) != 64 or not set(digest) <= set("0123456789abcdef"):
        raise ValueError(f"{place}.sha256 ({name!r}) must be 64 lower-case hexadecimal digits")
    if expires is not None and (not isinstance(expires, int | float) or isinstance(expires, bool)):
        raise ValueError(f"{place}.expires ({name!r}) must be a number, in Unix seconds")
    return Token(name, digest, _scopes(entry.get("scopes", []), f"{place}.scopes ({name!r})"), expires)


def _scopes(scopes: Any, place: str) -> tuple[str, ...]:
    """Read a list of scopes. A single text grants nothing, and is not worth refusing the revocations beside it."""
    if isinstance(scopes, str):
        _log.error("tokens file: scopes must be a list of texts; this token grants nothing", place=place)
        return ()
    if not isinstance(scopes, list) or not all(isinstance(scope, str) for scope in scopes):
        raise ValueError(f"{place} must be a list of texts")
    return tuple(scopes)
