"""The lines in which requests wait: one for each lineage of models, whose weights have one writer at a time.

A request that begins gets a number, the fence, larger than all before it on that lineage. Whoever changes anything in
the request's name shows the number: one that is no longer the last given is an attempt that was believed dead.

Keys, under the installation's prefix:

``removal-line:<lineage>``    ZSET of ``<quoted principal>/<request id>`` in the order in which they joined
``removal-lines:next``        the number given last in that order, and as a fence
``removal-fence:<lineage>``   the last fence given
"""

from typing import cast
from urllib.parse import unquote

import redis

from palimpsest.catalogue import quoted
from palimpsest.errors import Aborted, Reason
from palimpsest.redis import growing, translated

_JOIN = """
if redis.call('ZSCORE', KEYS[1], ARGV[1]) then return 0 end
return redis.call('ZADD', KEYS[1], redis.call('INCR', KEYS[2]), ARGV[1])
"""
_BEGIN = """
local fence = redis.call('INCR', KEYS[2])
redis.call('SET', KEYS[1], fence)
return fence
"""


class Line:
    """The line of one lineage. Blocks.

    Parameters
    ----------
    client, prefix
        Redis.
    lineage
        Fingerprint of the lineage's root.
    """

    def __init__(self, client: redis.Redis, prefix: str, lineage: str) -> None:
        self._redis = client
        self._line, self._fence = f"{prefix}removal-line:{lineage}", f"{prefix}removal-fence:{lineage}"
        self._next = f"{prefix}removal-lines:next"
        self._join, self._begin = growing(client, _JOIN), growing(client, _BEGIN)

    def join(self, principal: str, removal_id: str) -> None:
        """Go to the end of the line; one who stands in it keeps the place."""
        with translated():
            self._join(keys=[self._line, self._next], args=[_member(principal, removal_id)])

    def leave(self, principal: str, removal_id: str) -> None:
        """Leave the line."""
        with translated():
            self._redis.zrem(self._line, _member(principal, removal_id))

    def ahead(self, principal: str, removal_id: str) -> list[tuple[str, str]]:
        """Return who stands before one, as principals and ids; all who wait, for one who is not in the line."""
        everybody, place = self._standing(principal, removal_id)
        return everybody if place is None else everybody[:place]

    def behind(self, principal: str, removal_id: str) -> list[tuple[str, str]]:
        """Return who stands behind one, likewise; all who wait, for one who is not in the line."""
        everybody, place = self._standing(principal, removal_id)
        return everybody if place is None else everybody[place + 1 :]

    def _standing(self, principal: str, removal_id: str) -> tuple[list[tuple[str, str]], int | None]:
        """All who wait, and the place of one among them, as of one moment."""
        with translated():
            found = cast(list[bytes], self._redis.zrange(self._line, 0, -1))
        everybody, one = [_parse(each.decode()) for each in found], (principal, removal_id)
        return everybody, everybody.index(one) if one in everybody else None

    def begin(self) -> int:
        """Return a fence for the attempt that begins; earlier ones hold no longer."""
        with translated():
            return int(cast(int, self._begin(keys=[self._fence, self._next])))

    def holds(self, fence: int) -> bool:
        """Whether a fence is the last one given."""
        with translated():
            last = cast(bytes | None, self._redis.get(self._fence))
        return last is not None and int(last) == fence

    def require(self, fence: int) -> None:
        """Check that a fence is the last one given.

        Raises
        ------
        Aborted
            FENCE_LOST: a later attempt has begun.
        """
        if not self.holds(fence):
            message = "A later attempt writes to this lineage now; what this one has made is not kept."
            raise Aborted(Reason.FENCE_LOST, message, metadata={"fence": fence})


def _member(principal: str, removal_id: str) -> str:
    return f"{quoted(principal)}/{removal_id}"


def _parse(member: str) -> tuple[str, str]:
    principal, _, removal_id = member.partition("/")
    return unquote(principal), removal_id
