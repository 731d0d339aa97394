"""Who calls: bearer tokens kept as hashes, each with a name and the scopes it reaches."""

import hashlib
import hmac
import json
import time
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pool

from palimpsest.api.options.v1 import options_pb2
from palimpsest.errors import PermissionDenied, Reason, Unauthenticated

_ACCESS: Any = options_pb2.access  # generated stubs and bundled ones disagree on the type of extensions
_OPEN = ("/grpc.health.v1.Health/",)
"""Asked by probes, which hold no token."""

_FOREIGN_SCOPES = {
    "/google.longrunning.Operations/GetOperation": "jobs.read",
    "/google.longrunning.Operations/ListOperations": "jobs.read",
    "/google.longrunning.Operations/WaitOperation": "jobs.read",
    "/google.longrunning.Operations/CancelOperation": "jobs.write",
    "/google.longrunning.Operations/DeleteOperation": "jobs.write",
}
"""Methods of services that are not ours to annotate."""


@cache
def access_of(method: str) -> options_pb2.Access:
    """Return the Access option of a method by its full name; an empty one for services without it."""
    if method in _FOREIGN_SCOPES:
        scope = _FOREIGN_SCOPES[method]
        seconds = 3600 if method.endswith("/WaitOperation") else 0
        return options_pb2.Access(scope=scope, mutating=scope == "jobs.write", max_seconds=seconds)
    try:
        found = descriptor_pool.Default().FindMethodByName(method.lstrip("/").replace("/", "."))
    except KeyError:
        return options_pb2.Access()
    return found.GetOptions().Extensions[_ACCESS]


def hash_token(token: str) -> str:
    """Return what a tokens file holds for a token: the SHA-256 of its UTF-8 bytes, in hexadecimal.

    Tokens are random and long (``palimpsest`` makes them with 256 bits), so a slow hash adds nothing.
    """
    return hashlib.sha256(token.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class _Token:
    name: str
    sha256: str
    scopes: tuple[str, ...]
    expires: float | None


class Authenticator:
    """Checks callers against a tokens file, read again when it changes: revoking needs no restart.

    The file is JSON: ``{"tokens": [{"name": "alice", "sha256": "...", "scopes": ["decoding.*"],
    "expires": 1790000000}]}``. Scopes may end in ``*``; ``expires`` is in Unix seconds and optional.

    Parameters
    ----------
    tokens_file
        None: every caller is "local" and reaches everything.
    """

    def __init__(self, tokens_file: Path | None) -> None:
        self._file = tokens_file
        self._version: tuple[int, int] | None = None
        self._tokens: tuple[_Token, ...] = ()
        if tokens_file is not None:
            self._reload()  # a missing or malformed file must stop the server, not its first caller

    def _reload(self) -> None:
        assert self._file is not None
        stat = self._file.stat()
        version = (stat.st_mtime_ns, stat.st_size)
        if version == self._version:
            return
        entries = json.loads(self._file.read_text())["tokens"]
        self._tokens = tuple(
            _Token(e["name"], e["sha256"], tuple(e.get("scopes", ())), e.get("expires")) for e in entries
        )
        self._version = version

    def principal(self, method: str, authorization: str | None) -> str:
        """Return the caller's name.

        Raises
        ------
        Unauthenticated
            No token, an unknown, revoked or expired one.
        PermissionDenied
            The token lacks the method's scope.
        """
        if self._file is None or method.startswith(_OPEN):
            return "local"
        self._reload()
        if not authorization or not authorization.startswith("Bearer "):
            raise Unauthenticated(
                Reason.TOKEN_MISSING, "This server asks for a token: pass token= or set PALIMPSEST_TOKEN."
            )
        digest = hash_token(authorization.removeprefix("Bearer "))
        found = None
        for token in self._tokens:  # every one, always: the time taken says nothing about which matched
            if hmac.compare_digest(token.sha256, digest):
                found = token
        if found is None or (found.expires is not None and found.expires < time.time()):
            raise Unauthenticated(
                Reason.TOKEN_INVALID, "The token is unknown, revoked or expired; ask for a new one."
            )
        scope = access_of(method).scope
        if scope and not any(fnmatchcase(scope, granted) for granted in found.scopes):
            raise PermissionDenied(
                Reason.SCOPE_MISSING,
                f"The token of {found.name!r} lacks the scope {scope}.",
                metadata={"scope": scope},
            )
        return found.name
