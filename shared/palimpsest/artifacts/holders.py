"""Who holds which artefacts, in Redis: those who wrote the bytes, and those who were given them.

Keys, under the installation's prefix:

``held:<principal>``  SET of the digests that a principal holds
``held-by-all``       SET of the digests that every principal holds
``holders``           SET of the principals that hold something

Holding does not keep an artefact from collection, as references do; it ends when the artefact is deleted. The worker's
transitions (``jobs/transitions.lua``) write the first and the last key too: what a job reads and publishes is its
caller's.
"""

from collections.abc import Sequence
from typing import cast

import redis

from palimpsest.redis import translated

_GIVE = """
-- KEYS: held:<principal>, holders   ARGV: principal, digest...
for i = 2, #ARGV do redis.call('SADD', KEYS[1], ARGV[i]) end
redis.call('SADD', KEYS[2], ARGV[1])
"""

_FORGET = """
-- KEYS: holders, held-by-all   ARGV: prefix, digest
redis.call('SREM', KEYS[2], ARGV[2])
for _, principal in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  local key = ARGV[1] .. 'held:' .. principal
  redis.call('SREM', key, ARGV[2])
  if redis.call('EXISTS', key) == 0 then redis.call('SREM', KEYS[1], principal) end
end
"""

_HELD = """
-- KEYS: holders, held-by-all   ARGV: prefix, digest
-- Returns 1 if anybody holds it.
if redis.call('SISMEMBER', KEYS[2], ARGV[2]) == 1 then return 1 end
for _, principal in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  if redis.call('SISMEMBER', ARGV[1] .. 'held:' .. principal, ARGV[2]) == 1 then return 1 end
end
return 0
"""


class Holders:
    """The holders of artefacts.

    Every method raises Unavailable (JOB_STORE_UNAVAILABLE) if Redis does not answer; ``give`` and ``give_all`` raise
    ResourceExhausted (JOB_STORE_FULL) if it is out of memory.
    """

    def __init__(self, client: redis.Redis, prefix: str) -> None:
        self._redis, self._prefix = client, prefix
        self._all, self._principals = f"{prefix}held-by-all", f"{prefix}holders"
        self._give = client.register_script(_GIVE)
        self._forget = client.register_script(_FORGET)
        self._held = client.register_script(_HELD)

    def give(self, principal: str, digests: Sequence[str]) -> None:
        """Make a principal a holder of artefacts."""
        with translated():
            self._give(keys=[self._key(principal), self._principals], args=[principal, *digests])

    def give_all(self, digest: str) -> None:
        """Make every principal a holder of an artefact, those to come too."""
        with translated():
            self._redis.sadd(self._all, digest)

    def take(self, principal: str, digest: str) -> None:
        """Make a principal no longer a holder by itself."""
        with translated():
            self._redis.srem(self._key(principal), digest)

    def has(self, principal: str, digest: str) -> bool:
        """Return whether a principal holds an artefact by itself."""
        with translated():
            return bool(self._redis.sismember(self._key(principal), digest))

    def among(self, principal: str, digests: Sequence[str]) -> list[bool]:
        """Return for each digest whether a principal holds it, by itself or as all do."""
        if not digests:
            return []
        with translated(), self._redis.pipeline(transaction=False) as pipe:
            pipe.smismember(self._key(principal), list(digests))
            pipe.smismember(self._all, list(digests))
            own, all_ = cast("list[list[int]]", pipe.execute())
        return [bool(a or b) for a, b in zip(own, all_, strict=True)]

    def of(self, principal: str) -> set[str]:
        """Return the digests that a principal holds by itself."""
        with translated():
            return {each.decode() for each in cast("set[bytes]", self._redis.smembers(self._key(principal)))}

    def anyone(self, digest: str) -> bool:
        """Return whether anybody holds an artefact."""
        with translated():
            return bool(self._held(keys=[self._principals, self._all], args=[self._prefix, digest]))

    def forget(self, digest: str) -> None:
        """Note that an artefact is gone: nobody holds it any more."""
        with translated():
            self._forget(keys=[self._principals, self._all], args=[self._prefix, digest])

    def _key(self, principal: str) -> str:
        return f"{self._prefix}held:{principal}"
