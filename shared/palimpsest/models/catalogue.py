"""The catalogue of registered models, in Redis.

Keys, all under the installation's prefix:

``models``              ZSET of model ids by order of registration
``models:next``         the next place in that order
``model:<id>``          HASH: ``record`` (JSON), ``fingerprint``, ``parent``
``model:<id>:children`` SET of ids that name this model as their parent

Each change is one script, so two registrations of one id, or a deletion and the registration of a child, cannot
both win.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import cast

import redis

from palimpsest.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound, Reason
from palimpsest.models.record import ModelRecord
from palimpsest.redis import translated

_PAGE_SIZE, _MOST_PER_PAGE = 100, 1000

_PUT = """
-- KEYS: models, models:next   ARGV: prefix, id, record, fingerprint, parent, path
-- Returns {'new'}, {'same', record}, {'other', fingerprint} or {'orphan'}.
local own = ARGV[1] .. 'model:' .. ARGV[2]
local fingerprint = redis.call('HGET', own, 'fingerprint')
if fingerprint then
  if fingerprint ~= ARGV[4] then return {'other', fingerprint} end
  -- The same content, perhaps moved on the disk since: the path just checked is the one that holds.
  redis.call('HSET', own, 'path', ARGV[6])
  return {'same', redis.call('HGET', own, 'record')}
end
if ARGV[5] ~= '' then
  if redis.call('EXISTS', ARGV[1] .. 'model:' .. ARGV[5]) == 0 then return {'orphan'} end
  redis.call('SADD', ARGV[1] .. 'model:' .. ARGV[5] .. ':children', ARGV[2])
end
redis.call('HSET', own, 'record', ARGV[3], 'fingerprint', ARGV[4], 'parent', ARGV[5], 'path', ARGV[6])
redis.call('ZADD', KEYS[1], redis.call('INCR', KEYS[2]), ARGV[2])
return {'new'}
"""

_DELETE = """
-- KEYS: models   ARGV: prefix, id
-- Returns {'gone', record, path}, {'missing'} or {'parent', child...}.
local own = ARGV[1] .. 'model:' .. ARGV[2]
local found = redis.call('HMGET', own, 'record', 'parent', 'path')
if not found[1] then return {'missing'} end
local children = redis.call('SMEMBERS', own .. ':children')
if #children > 0 then
  table.insert(children, 1, 'parent')
  return children
end
if found[2] ~= '' then redis.call('SREM', ARGV[1] .. 'model:' .. found[2] .. ':children', ARGV[2]) end
redis.call('DEL', own)
redis.call('ZREM', KEYS[1], ARGV[2])
return {'gone', found[1], found[3]}
"""


@dataclass(frozen=True)
class Lineage:
    """Where a model comes from and what was made from it: parents nearest first, and direct children."""

    ancestors: list[ModelRecord]
    children: list[ModelRecord]


class ModelCatalogue:
    """Registered models by id; blocks, and may be called from any thread.

    Every method raises Unavailable (JOB_STORE_UNAVAILABLE) if Redis does not answer.
    """

    def __init__(self, client: redis.Redis, prefix: str) -> None:
        self._redis = client
        self._prefix = prefix
        self._put = client.register_script(_PUT)
        self._delete = client.register_script(_DELETE)

    def put(self, record: ModelRecord) -> ModelRecord:
        """Add a model; if the id is there with the same content, return what is there.

        Raises
        ------
        AlreadyExists
            MODEL_EXISTS: the id names a model with another fingerprint.
        NotFound
            MODEL_NOT_FOUND: the parent is not registered.
        """
        with translated():
            answer, *rest = cast(
                list[bytes],
                self._put(
                    keys=[f"{self._prefix}models", f"{self._prefix}models:next"],
                    args=[
                        self._prefix,
                        record.model_id,
                        record.to_json(),
                        record.fingerprint,
                        record.parent,
                        record.path,
                    ],
                ),
            )
        if answer == b"other":
            message = f"{record.model_id!r} is a model with other content already. Use another id, or delete that one."
            facts = {"registered": rest[0].decode(), "offered": record.fingerprint}
            raise AlreadyExists(Reason.MODEL_EXISTS, message, metadata=facts)
        if answer == b"orphan":
            raise _not_found(record.parent)
        return replace(ModelRecord.from_json(rest[0]), path=record.path) if answer == b"same" else record

    def get(self, model_id: str) -> ModelRecord:
        """Look a model up.

        Raises
        ------
        NotFound
            MODEL_NOT_FOUND.
        """
        found = self._records([model_id])
        if not found:
            raise _not_found(model_id)
        return found[0]

    def list(self, page_size: int = 0, page_token: str = "") -> tuple[list[ModelRecord], str]:
        """One page of models, oldest first, and the token of the next; empty after the last.

        Raises
        ------
        InvalidArgument
            PAGE_TOKEN_INVALID.
        """
        size = min(page_size, _MOST_PER_PAGE) if page_size else _PAGE_SIZE
        if page_token and not page_token.isdecimal():
            message = "This is not a page token of this method. Begin again without one."
            raise InvalidArgument.field(Reason.PAGE_TOKEN_INVALID, "page_token", message)
        with translated():
            rows = cast(
                list[tuple[bytes, float]],
                self._redis.zrangebyscore(
                    f"{self._prefix}models", f"({page_token or 0}", "+inf", 0, size + 1, withscores=True
                ),
            )
        records = self._records(model_id.decode() for model_id, _ in rows[:size])
        return records, str(int(rows[size - 1][1])) if len(rows) > size else ""

    def delete(self, model_id: str) -> ModelRecord:
        """Forget a model and return what it was; its files are the caller's business.

        Raises
        ------
        NotFound
            MODEL_NOT_FOUND.
        FailedPrecondition
            MODEL_HAS_CHILDREN: another model names it as its parent.
        """
        with translated():
            answer, *rest = cast(
                list[bytes], self._delete(keys=[f"{self._prefix}models"], args=[self._prefix, model_id])
            )
        if answer == b"missing":
            raise _not_found(model_id)
        if answer == b"parent":
            children = ", ".join(sorted(child.decode() for child in rest))
            message = f"{model_id!r} is the parent of {children}. Delete those first."
            raise FailedPrecondition(Reason.MODEL_HAS_CHILDREN, message, metadata={"children": children})
        return replace(ModelRecord.from_json(rest[0]), path=rest[1].decode())

    def lineage(self, model_id: str) -> Lineage:
        """Where a model comes from, and what was made from it.

        Raises
        ------
        NotFound
            MODEL_NOT_FOUND.
        """
        record = self.get(model_id)
        ancestors: list[ModelRecord] = []
        while record.parent:
            record = self.get(record.parent)
            ancestors.append(record)
        with translated():
            children = cast(set[bytes], self._redis.smembers(f"{self._prefix}model:{model_id}:children"))
        return Lineage(ancestors, self._records(sorted(child.decode() for child in children)))

    def uses(self, path: str) -> bool:
        """Say whether any registered model lies in this folder."""
        with translated():
            ids = cast(list[bytes], self._redis.zrange(f"{self._prefix}models", 0, -1))
        return any(record.path == path for record in self._records(model_id.decode() for model_id in ids))

    def _records(self, model_ids: Iterable[str]) -> "list[ModelRecord]":
        with translated(), self._redis.pipeline(transaction=False) as pipe:
            for model_id in model_ids:
                pipe.hmget(f"{self._prefix}model:{model_id}", "record", "path")
            rows = pipe.execute()
        return [replace(ModelRecord.from_json(data), path=path.decode()) for data, path in rows if data]


def _not_found(model_id: str) -> NotFound:
    message = (
        f"There is no model {model_id!r}. `palimpsest models list` shows those there are; register it first."
    )
    return NotFound(Reason.MODEL_NOT_FOUND, message, metadata={"model": model_id})
