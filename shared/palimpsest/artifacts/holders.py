"""Who holds which artefacts, in Redis: those who wrote the bytes, and those who were given them.

Keys, under the installation's prefix:

``held:<principal>``  HASH: digest -> ``<ms> <media type>``: when the principal stored it or was given it, and what the
                      principal called it; no media type: as the artefact's sidecar says
``held-by-all``       SET of the digests that every principal holds
``holders``           SET of the principals that hold something

Equal bytes are stored once, but each holder has a time and a media type of its own, so that none learns from them that
there is another. Holding does not keep an artefact from collection, as references do; it ends when the artefact is
deleted. The worker's transitions (``jobs/transitions.lua``) write the first and the last key too: what a job reads and
publishes is its caller's.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import NamedTuple, cast

import redis

from palimpsest.artifacts.info import ArtifactInfo
from palimpsest.redis import translated

_GIVE = """
-- KEYS: held:<principal>, holders   ARGV: principal, digest, media type or '' to keep what there is
local time = redis.call('TIME')
local media_type = ARGV[3]
if media_type == '' then
  local held = redis.call('HGET', KEYS[1], ARGV[2])
  media_type = held and string.match(held, ' (.*)$') or ''
end
local ms = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('HSET', KEYS[1], ARGV[2], string.format('%.0f ', ms) .. media_type)
redis.call('SADD', KEYS[2], ARGV[1])
"""

_FORGET = """
-- KEYS: holders, held-by-all   ARGV: prefix, digest
redis.call('SREM', KEYS[2], ARGV[2])
for _, principal in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  local key = ARGV[1] .. 'held:' .. principal
  redis.call('HDEL', key, ARGV[2])
  if redis.call('EXISTS', key) == 0 then redis.call('SREM', KEYS[1], principal) end
end
"""

_ANYONE = """
-- KEYS: holders, held-by-all   ARGV: prefix, digest
-- Returns 1 if anybody holds it.
if redis.call('SISMEMBER', KEYS[2], ARGV[2]) == 1 then return 1 end
for _, principal in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  if redis.call('HEXISTS', ARGV[1] .. 'held:' .. principal, ARGV[2]) == 1 then return 1 end
end
return 0
"""


class Held(NamedTuple):
    """How a principal holds an artefact: since when, in milliseconds since 1970, and what it calls it."""

    ms: int
    media_type: str

    def seen(self, info: ArtifactInfo) -> ArtifactInfo:
        """The artefact as its holder sees it."""
        since = datetime.fromtimestamp(self.ms / 1000, UTC)
        return replace(info, create_time=since, media_type=self.media_type or info.media_type)


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
        self._anyone = client.register_script(_ANYONE)

    def give(self, principal: str, digest: str, media_type: str = "") -> None:
        """Make a principal a holder of an artefact from now on; no media type: keep what it called it before."""
        with translated():
            self._give(keys=[self._key(principal), self._principals], args=[principal, digest, media_type])

    def give_all(self, digest: str) -> None:
        """Make every principal a holder of an artefact, those to come too."""
        with translated():
            self._redis.sadd(self._all, digest)

    def take(self, principal: str, digest: str) -> None:
        """Make a principal no longer a holder by itself."""
        with translated():
            self._redis.hdel(self._key(principal), digest)

    def find(self, principal: str, digest: str) -> Held | None:
        """Return how a principal holds an artefact by itself; None if it does not."""
        with translated():
            found = cast("bytes | None", self._redis.hget(self._key(principal), digest))
        return _parse(found) if found is not None else None

    def among(self, principal: str, digests: Sequence[str]) -> list[bool]:
        """Return for each digest whether a principal holds it, by itself or as all do."""
        if not digests:
            return []
        with translated(), self._redis.pipeline(transaction=False) as pipe:
            pipe.hmget(self._key(principal), list(digests))
            pipe.smismember(self._all, list(digests))
            own, all_ = cast("list[list[bytes | int | None]]", pipe.execute())
        return [a is not None or bool(b) for a, b in zip(own, all_, strict=True)]

    def of(self, principal: str) -> dict[str, Held]:
        """Return what a principal holds by itself."""
        with translated():
            held = cast("dict[bytes, bytes]", self._redis.hgetall(self._key(principal)))
        return {digest.decode(): _parse(found) for digest, found in held.items()}

    def anyone(self, digest: str) -> bool:
        """Return whether anybody holds an artefact."""
        with translated():
            return bool(self._anyone(keys=[self._principals, self._all], args=[self._prefix, digest]))

    def forget(self, digest: str) -> None:
        """Note that an artefact is gone: nobody holds it any more."""
        with translated():
            self._forget(keys=[self._principals, self._all], args=[self._prefix, digest])

    def _key(self, principal: str) -> str:
        return f"{self._prefix}held:{principal}"


def _parse(found: bytes) -> Held:
    ms, _, media_type = found.decode().partition(" ")
    return Held(int(ms), media_type)
