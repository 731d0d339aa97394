"""References to artefacts, in Redis: which jobs, models, pins and writers need an artefact.

Keys, all under the installation's prefix:

``refs:<digest>``        SET of owners: ``job/<id>``, ``model/<id>``, ``pin/<name>``, ``write/<time>-<id>``
``owned:<owner>``        SET of digests: the inverse of ``refs``
``owner-principals``     HASH: owner -> principal it belongs to; those of the installation are not in it
``collecting``           SET of digests being deleted; new references to them are refused meanwhile
``collecting:<digest>``  token of the deleting process; expires, so that a dead process blocks others only briefly

A reference is refused while its digest is being deleted, and a deletion is refused while a reference exists. Each
check is one script with its change, so one of the two always sees the other.
"""

import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import cast

import redis

from palimpsest.artifacts.holders import Holders
from palimpsest.errors import Aborted, FailedPrecondition, Reason
from palimpsest.redis import growing, translated, unbounded

COLLECT_LEASE_SECONDS = 60
"""Seconds that deleting one artefact may take before others stop waiting for it."""

_ADD = """
-- KEYS: collecting, owned:<owner>   ARGV: prefix, owner, principal or '', digest...
-- Returns the first digest being deleted, with nothing changed, or '' once all references are added.
for i = 4, #ARGV do
  if redis.call('SISMEMBER', KEYS[1], ARGV[i]) == 1 then
    if redis.call('EXISTS', ARGV[1] .. 'collecting:' .. ARGV[i]) == 1 then return ARGV[i] end
    redis.call('SREM', KEYS[1], ARGV[i])
  end
end
for i = 4, #ARGV do
  redis.call('SADD', ARGV[1] .. 'refs:' .. ARGV[i], ARGV[2])
  redis.call('SADD', KEYS[2], ARGV[i])
end
if ARGV[3] ~= '' then
  local time = redis.call('TIME')
  local held = string.format('%.0f ', time[1] * 1000 + math.floor(time[2] / 1000))
  for i = 4, #ARGV do redis.call('HSETNX', ARGV[1] .. 'held:' .. ARGV[3], ARGV[i], held) end
  redis.call('HSET', ARGV[1] .. 'owner-principals', ARGV[2], ARGV[3])
  redis.call('SADD', ARGV[1] .. 'holders', ARGV[3])
end
return ''
"""

_REMOVE_OWNER = """
-- KEYS: owned:<owner>   ARGV: prefix, owner
-- Returns how many references were removed.
local digests = redis.call('SMEMBERS', KEYS[1])
for _, digest in ipairs(digests) do
  redis.call('SREM', ARGV[1] .. 'refs:' .. digest, ARGV[2])
end
redis.call('DEL', KEYS[1])
redis.call('HDEL', ARGV[1] .. 'owner-principals', ARGV[2])
return #digests
"""

_BEGIN = """
-- KEYS: refs:<digest>, collecting, collecting:<digest>   ARGV: digest, token, lease seconds
-- Returns the owners, with nothing changed; or {''} if another process is deleting it; or {} once marked.
local owners = redis.call('SMEMBERS', KEYS[1])
if #owners > 0 then return owners end
if not redis.call('SET', KEYS[3], ARGV[2], 'NX', 'EX', ARGV[3]) then return {''} end
redis.call('SADD', KEYS[2], ARGV[1])
return {}
"""

_END = """
-- KEYS: collecting, collecting:<digest>   ARGV: digest, token
if redis.call('GET', KEYS[2]) == ARGV[2] then
  redis.call('DEL', KEYS[2])
  redis.call('SREM', KEYS[1], ARGV[1])
end
"""

_SWEEP = """
-- KEYS: collecting   ARGV: prefix
-- Removes the marks of dead deleters. Returns how many.
local lifted = 0
for _, digest in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  if redis.call('EXISTS', ARGV[1] .. 'collecting:' .. digest) == 0 then
    lifted = lifted + redis.call('SREM', KEYS[1], digest)
  end
end
return lifted
"""


class References:
    """References to artefacts; ``holders`` says which principals see an artefact.

    Every method raises Unavailable (JOB_STORE_UNAVAILABLE) if Redis does not answer. Where it is out of memory, ``add``
    and ``written`` raise ResourceExhausted (JOB_STORE_FULL), unless the client is a worker's; nothing else does.
    """

    def __init__(self, client: redis.Redis, prefix: str) -> None:
        self.holders = Holders(client, prefix)
        self._redis = client
        self._prefix = prefix
        self._add = growing(client, _ADD)
        self._remove_owner = unbounded(client, _REMOVE_OWNER)
        self._begin = unbounded(client, _BEGIN)  # of a deletion
        self._end = unbounded(client, _END)
        self._sweep = unbounded(client, _SWEEP)

    def add(self, owner: str, digests: Sequence[str], principal: str = "") -> None:
        """Add references to artefacts, all or none.

        Parameters
        ----------
        owner
            What needs them.
        digests
            The artefacts.
        principal
            Whose the owner is; it becomes a holder of the artefacts. Empty: the installation's.

        Raises
        ------
        Aborted
            ARTIFACT_IN_USE: one of them is being deleted; store it again.
        """
        with translated():
            keys = [f"{self._prefix}collecting", f"{self._prefix}owned:{owner}"]
            refused = self._add(keys=keys, args=[self._prefix, owner, principal, *digests])
        if refused:
            message = f"{_text(refused)} is being deleted. Upload it again, then retry."
            raise Aborted(Reason.ARTIFACT_IN_USE, message, retry_after=1)

    def remove_owner(self, owner: str) -> int:
        """Remove all references of an owner; return how many there were."""
        with translated():
            keys = [f"{self._prefix}owned:{owner}"]
            return int(cast(int, self._remove_owner(keys=keys, args=[self._prefix, owner])))

    def owners(self, digest: str, principal: str | None = None) -> list[str]:
        """The owners of references to an artefact, sorted; only those of a principal, if one is named."""
        with translated():
            members = cast(set, self._redis.smembers(f"{self._prefix}refs:{digest}"))
            owners = sorted(_text(member) for member in members)
            if principal is None or not owners:
                return owners
            whose = cast(list, self._redis.hmget(f"{self._prefix}owner-principals", owners))
        return [
            owner
            for owner, found in zip(owners, whose, strict=True)
            if found is not None and _text(found) == principal
        ]

    @contextmanager
    def written(self, digest: str, timeout: float = COLLECT_LEASE_SECONDS + 5) -> Iterator[None]:
        """Protect a digest from collection while it is being stored; waits up to timeout seconds for a deletion."""
        owner = f"write/{int(time.time())}-{uuid.uuid4().hex}"
        deadline = time.monotonic() + timeout
        while True:
            try:
                self.add(owner, [digest])
                break
            except Aborted:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
        try:
            yield
        finally:
            self.remove_owner(owner)

    @contextmanager
    def collected(self, digest: str) -> Iterator[None]:
        """Refuse new references to a digest while it is being deleted.

        Raises
        ------
        FailedPrecondition
            ARTIFACT_IN_USE: something refers to it, or another process is deleting it; metadata names the owners.
        """
        token = uuid.uuid4().hex
        own = f"{self._prefix}collecting:{digest}"
        with translated():
            keys = [f"{self._prefix}refs:{digest}", f"{self._prefix}collecting", own]
            owners = cast(list, self._begin(keys=keys, args=[digest, token, COLLECT_LEASE_SECONDS]))
        if owners:
            raise in_use(digest, sorted(_text(owner) for owner in owners))
        try:
            yield
        finally:
            with translated():
                self._end(keys=[f"{self._prefix}collecting", own], args=[digest, token])

    def sweep(self, oldest_write: float) -> None:
        """Remove what dead processes left: deletion marks, and references of writes begun before oldest_write."""
        with translated():
            self._sweep(keys=[f"{self._prefix}collecting"], args=[self._prefix])
            pattern = f"{_escape(self._prefix)}owned:write/*"
            owners = [
                _text(key).removeprefix(f"{self._prefix}owned:") for key in self._redis.scan_iter(pattern)
            ]
        for owner in owners:
            if int(owner.removeprefix("write/").partition("-")[0]) < oldest_write:
                self.remove_owner(owner)


def in_use(digest: str, owners: Sequence[str]) -> FailedPrecondition:
    """Build the error for an artefact that something refers to."""
    names = ", ".join(owners) or "another deletion"
    message = f"{digest} is in use by {names}. Delete or unpin them first."
    return FailedPrecondition(Reason.ARTIFACT_IN_USE, message, metadata={"digest": digest, "owners": names})


def _escape(pattern: str) -> str:
    return "".join(f"\\{char}" if char in "*?[]\\" else char for char in pattern)


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
