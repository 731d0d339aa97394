"""The catalogue of n-gram stores: summaries in Redis, the stores themselves as artefacts.

Keys, all under the installation's prefix, for each tenant:

``ngram-stores:<tenant>``  HASH: id -> record, JSON: ``store`` (the message), ``content``, ``owner``
``ngram-ids:<tenant>``     ZSET of ids, all with score 0, so they are sorted by their bytes

A record's owner is the name under which it holds a reference to its artefact. Every record has a new owner, so that a
store being deleted and one being built under the same id never remove each other's reference.
"""

import hashlib
import json
import uuid
from typing import NamedTuple, cast

import redis
from google.protobuf import json_format

from palimpsest.api.datastore.v1 import datastore_pb2 as pb
from palimpsest.artifacts import ArtifactStore
from palimpsest.errors import AlreadyExists, NotFound, Reason
from palimpsest.redis import translated

PAGE_SIZE, MOST_PER_PAGE = 100, 1000

_PUT = """
-- KEYS: ngram-stores:<tenant>, ngram-ids:<tenant>   ARGV: id, record, content
-- Returns {'new'}, {'same', record} or {'other'}.
local found = redis.call('HGET', KEYS[1], ARGV[1])
if found then
  if cjson.decode(found).content == ARGV[3] then return {'same', found} end
  return {'other'}
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('ZADD', KEYS[2], 0, ARGV[1])
return {'new'}
"""

_DELETE = """
-- KEYS: ngram-stores:<tenant>, ngram-ids:<tenant>   ARGV: id
-- Returns the record that was deleted, or ''.
local found = redis.call('HGET', KEYS[1], ARGV[1])
if not found then return '' end
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('ZREM', KEYS[2], ARGV[1])
return found
"""


class _Record(NamedTuple):
    store: pb.NgramStore
    content: str
    owner: str

    def to_json(self) -> str:
        message = json_format.MessageToDict(self.store, preserving_proto_field_name=True)
        return json.dumps({"store": message, "content": self.content, "owner": self.owner})

    @classmethod
    def from_json(cls, data: bytes) -> "_Record":
        fields = json.loads(data)
        return cls(
            json_format.ParseDict(fields["store"], pb.NgramStore()), fields["content"], fields["owner"]
        )


class NgramCatalogue:
    """N-gram stores by tenant and id; blocks, and may be called from any thread.

    Every method raises Unavailable (JOB_STORE_UNAVAILABLE) if Redis does not answer.
    """

    def __init__(self, client: redis.Redis, prefix: str, artifacts: ArtifactStore) -> None:
        self._redis, self._prefix, self._artifacts = client, prefix, artifacts
        self._put = client.register_script(_PUT)
        self._delete = client.register_script(_DELETE)

    def put(self, tenant: str, store: pb.NgramStore, content: str) -> pb.NgramStore:
        """Add a store whose artefact is there; if it is known already with the same content, return that.

        Parameters
        ----------
        tenant
            Whose it is.
        store
            Complete.
        content
            Digest of everything that decides what the store is; see ``content_of``.

        Raises
        ------
        AlreadyExists
            NGRAM_STORE_EXISTS: the id is taken by another content.
        """
        record = _Record(store, content, f"ngram-store/{tenant}/{id_of(store.name)}/{uuid.uuid4().hex}")
        self._artifacts.references.add(record.owner, [store.artifact])
        with translated():
            answer, *rest = cast(
                list[bytes],
                self._put(keys=self._keys(tenant), args=[id_of(store.name), record.to_json(), content]),
            )
        if answer == b"new":
            return store
        self._artifacts.references.remove_owner(record.owner)
        if answer == b"other":
            raise exists(store.name)
        return _Record.from_json(rest[0]).store

    def find(self, tenant: str, name: str, content: str) -> pb.NgramStore | None:
        """Return a store that is there already with this content; None if the id is free.

        Raises
        ------
        AlreadyExists
            NGRAM_STORE_EXISTS: the id is taken by another content.
        """
        found = self._record(tenant, name)
        if found is not None and found.content != content:
            raise exists(name)
        return found.store if found else None

    def get(self, tenant: str, name: str) -> pb.NgramStore:
        """Return a store by its name, ``ngramStores/{id}``.

        Raises
        ------
        NotFound
            NGRAM_STORE_NOT_FOUND: there is none, or it is another tenant's.
        """
        found = self._record(tenant, name)
        if found is None:
            raise _not_found(name)
        return found.store

    def list(self, tenant: str, page_size: int = 0, page_token: str = "") -> tuple[list[pb.NgramStore], str]:
        """One page of a tenant's stores by name, and the token of the next; empty after the last."""
        size = min(page_size, MOST_PER_PAGE) or PAGE_SIZE
        records, ids = self._keys(tenant)
        with translated():
            after = f"({page_token}" if page_token else "-"
            found = cast(list[bytes], self._redis.zrangebylex(ids, after, "+", 0, size + 1))
            rows = cast("list[bytes | None]", self._redis.hmget(records, found[:size])) if found else []
        stores = [_Record.from_json(row).store for row in rows if row]
        return stores, found[size - 1].decode() if len(found) > size else ""

    def delete(self, tenant: str, name: str) -> None:
        """Forget a store; its artefact is free for collection unless something else needs it.

        Raises
        ------
        NotFound
            NGRAM_STORE_NOT_FOUND.
        """
        with translated():
            found = cast(bytes, self._delete(keys=self._keys(tenant), args=[id_of(name)]))
        if not found:
            raise _not_found(name)
        self._artifacts.references.remove_owner(_Record.from_json(found).owner)

    def _record(self, tenant: str, name: str) -> _Record | None:
        with translated():
            found = cast(bytes | None, self._redis.hget(self._keys(tenant)[0], id_of(name)))
        return _Record.from_json(found) if found else None

    def _keys(self, tenant: str) -> tuple[str, str]:
        return f"{self._prefix}ngram-stores:{tenant}", f"{self._prefix}ngram-ids:{tenant}"


def content_of(**facts: object) -> str:
    """Digest of what a store is: the text, how it is cut, the tokenizer."""
    return hashlib.sha256(json.dumps({"format": 1, **facts}, sort_keys=True).encode()).hexdigest()


def id_of(name: str) -> str:
    """The id in ``ngramStores/{id}``."""
    return name.removeprefix("ngramStores/")


def exists(name: str) -> AlreadyExists:
    """Build the error for an id that is taken."""
    message = (
        f"{name} already exists with another text, tokenizer or labels (a corpus that has changed counts as another "
        "text). Use another id, or delete the existing store."
    )
    return AlreadyExists(Reason.NGRAM_STORE_EXISTS, message, metadata={"store": name})


def _not_found(name: str) -> NotFound:
    message = f"There is no {name}. `palimpsest ngrams list` shows those there are; build it first."
    return NotFound(Reason.NGRAM_STORE_NOT_FOUND, message, metadata={"store": name})
