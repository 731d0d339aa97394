"""Who calls: bearer tokens stored as hashes, each with a name and scopes, and calls on behalf of another caller.

A job calls other rooms for the caller it works for. It sends the installation's service token and, in the metadata
:data:`~palimpsest.rpc.channel.ON_BEHALF_OF`, the name of that caller. Such a call is the named caller's in every
respect, ownership and the scopes of that caller's own tokens, so that a job reaches exactly what its caller could
reach; only quotas and places are not that caller's (``rpc/admission.py``). The right to do this is the scope
``impersonate``, which a token must name: no wildcard grants it.
"""

import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pool

from palimpsest.api.options.v1 import options_pb2
from palimpsest.catalogue import LOCAL as LOCAL_PRINCIPAL
from palimpsest.errors import PermissionDenied, Reason, Unauthenticated
from palimpsest.rpc.calls import granted
from palimpsest.rpc.channel import ON_BEHALF_OF
from palimpsest.rpc.tokens import Token, TokensFile, hash_token

_ACCESS: Any = options_pb2.access  # generated stubs and bundled ones disagree on the type of extensions
_OPEN = ("/grpc.health.v1.Health/",)
"""Called by probes, which have no token."""

IMPERSONATE = "impersonate"
"""Scope of a token that may act for another caller."""
ADMIN_JOBS = "admin.jobs"
"""Scope of a token that reaches every caller's jobs."""
ADMIN_ARTIFACTS = "admin.artifacts"
"""Scope of a token that reaches every caller's artefacts, and collects garbage."""
ADMIN_ENGINES = "admin.engines"
"""Scope of a token that sees what engines do for all callers together."""

_MINE = {"ownership": options_pb2.OWNERSHIP_CALLER, "admin_scope": ADMIN_JOBS}
_READS = options_pb2.Access(scope="jobs.read", **_MINE)
_WRITES = options_pb2.Access(scope="jobs.write", mutating=True, **_MINE)
OPERATIONS = {
    "/google.longrunning.Operations/GetOperation": _READS,
    "/google.longrunning.Operations/ListOperations": _READS,
    "/google.longrunning.Operations/WaitOperation": options_pb2.Access(
        scope="jobs.read", max_seconds=3600, **_MINE
    ),
    "/google.longrunning.Operations/CancelOperation": _WRITES,
    "/google.longrunning.Operations/DeleteOperation": _WRITES,
}
"""Access to the methods of a service whose proto we cannot annotate."""


@cache
def access_of(method: str) -> options_pb2.Access:
    """Return the Access option of a method by its full name; an empty one for services without it."""
    if method in OPERATIONS:
        return OPERATIONS[method]
    try:
        found = descriptor_pool.Default().FindMethodByName(method.lstrip("/").replace("/", "."))
    except KeyError:
        return options_pb2.Access()
    return found.GetOptions().Extensions[_ACCESS]


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose call it is.

    Attributes
    ----------
    principal
        Owner of everything the call makes or reaches.
    scopes
        Patterns of the scopes the principal has.
    actor
        Name of the token that made the call on the principal's behalf; empty where the principal called itself.
    by_job
        A job made the call for the principal.
    """

    principal: str
    scopes: tuple[str, ...]
    actor: str = ""
    by_job: bool = False

    def has(self, scope: str) -> bool:
        """Return whether one of the scopes grants this one."""
        return granted(scope, self.scopes)


LOCAL = Caller(LOCAL_PRINCIPAL, ("*",))
"""The caller where no token is asked for."""


class Authenticator:
    """Checks callers against a tokens file, which is read again when it changes: revoking needs no restart.

    Scopes may end in ``*``. Several tokens may have one name, so that one can be replaced before it expires.

    Parameters
    ----------
    tokens_file
        None: every caller is "local" and reaches everything.

    Raises
    ------
    FailedPrecondition
        TOKENS_FILE: a file that is missing or damaged must stop the server, not its first caller.
    """

    def __init__(self, tokens_file: Path | None) -> None:
        self._file = TokensFile(tokens_file) if tokens_file is not None else None

    def caller(self, method: str, metadata: Mapping[str, str | bytes]) -> Caller:
        """Return whose call it is.

        Parameters
        ----------
        method
            Full name, such as ``/palimpsest.api.decoding.v1.DecodingService/Generate``.
        metadata
            Of the call: ``authorization`` and ON_BEHALF_OF.

        Raises
        ------
        Unauthenticated
            The token is missing, unknown, revoked or expired.
        PermissionDenied
            IMPERSONATION_REFUSED: the token may not act for another caller, or there is no such caller.
            SCOPE_MISSING: the caller has no token with the method's scope.
        """
        claimed = metadata.get(ON_BEHALF_OF)
        behalf = claimed.decode(errors="replace") if isinstance(claimed, bytes) else claimed
        if self._file is None or method.startswith(_OPEN):
            if behalf not in (None, LOCAL.principal):
                raise _refused(behalf, "a server without a tokens file knows one caller, 'local'")
            return replace(LOCAL, by_job=behalf is not None)
        tokens = self._file.tokens()
        token = _matching(tokens, metadata.get("authorization"))
        if behalf is None:
            caller = Caller(token.name, token.scopes)
        elif IMPERSONATE not in token.scopes:
            raise _refused(behalf, f"the token of {token.name!r} lacks the scope {IMPERSONATE}")
        else:
            theirs = [each for each in tokens if each.name == behalf and not each.expired]
            if not theirs:
                raise _refused(behalf, "no valid token has that name")
            scopes = _union(each.scopes for each in theirs)
            caller = Caller(behalf, scopes, actor=token.name, by_job=True)
        scope = access_of(method).scope
        if scope and not caller.has(scope):
            raise PermissionDenied(
                Reason.SCOPE_MISSING,
                f"The token of {caller.principal!r} lacks the scope {scope}.",
                metadata={"scope": scope},
            )
        return caller


def _matching(tokens: Iterable[Token], authorization: str | bytes | None) -> Token:
    if not isinstance(authorization, str) or not authorization.startswith("Bearer "):
        raise Unauthenticated(
            Reason.TOKEN_MISSING, "This server asks for a token: pass token= or set PALIMPSEST_TOKEN."
        )
    digest = hash_token(authorization.removeprefix("Bearer "))
    found = None
    for token in tokens:  # all of them, always: the time taken must not reveal which one matched
        if hmac.compare_digest(token.sha256, digest):
            found = token
    if found is None or found.expired:
        raise Unauthenticated(
            Reason.TOKEN_INVALID, "The token is unknown, revoked or expired; ask for a new one."
        )
    return found


def _union(scopes: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(scope for each in scopes for scope in each))


def _refused(principal: str, why: str) -> PermissionDenied:
    return PermissionDenied(
        Reason.IMPERSONATION_REFUSED,
        f"The call may not be made on behalf of {principal!r}: {why}.",
        metadata={"principal": principal},
    )
