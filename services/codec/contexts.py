"""The catalogue of stored contexts: summaries in Redis, chunk lists and bitstreams as artefacts.

Keys, all under the installation's prefix:

``contexts``                       ZSET of context ids by order of creation
``contexts:next``                  the next place in that order
``context:<id>``                   HASH: ``summary`` (JSON, no chunks), ``manifest`` (digest), ``content``, ``prefixes``
``context-prefix:<model>:<hash>``  SET of ``<id>/<chunks>`` whose first chunks have this prefix hash
``context-ends:<model>``           HASH: token count at which some chunk ends -> how many chunks do

Each change is one script: a context is there with all its prefixes or not at all.
"""

import hashlib
import json
from collections.abc import Sequence
from typing import NamedTuple, cast

import numpy as np
import redis
from google.protobuf import json_format

from palimpsest.api.codec.v1 import codec_pb2 as pb
from palimpsest.artifacts import ArtifactStore
from palimpsest.errors import AlreadyExists, InvalidArgument, NotFound, Reason
from palimpsest.redis import translated

MANIFEST_TYPE = "application/x-palimpsest-context"
_PAGE_SIZE, _MOST_PER_PAGE = 100, 1000

_PUT = """
-- KEYS: contexts, contexts:next   ARGV: prefix, id, summary, manifest, content, model, (end, hash)...
-- Returns {'new'}, {'same'} or {'other'}.
local own = ARGV[1] .. 'context:' .. ARGV[2]
local content = redis.call('HGET', own, 'content')
if content then
  if content == ARGV[5] then return {'same'} end
  return {'other'}
end
local prefixes = {}
for i = 7, #ARGV, 2 do
  local member = ARGV[2] .. '/' .. ((i - 5) / 2)
  redis.call('SADD', ARGV[1] .. 'context-prefix:' .. ARGV[6] .. ':' .. ARGV[i + 1], member)
  redis.call('HINCRBY', ARGV[1] .. 'context-ends:' .. ARGV[6], ARGV[i], 1)
  prefixes[#prefixes + 1] = {ARGV[i], ARGV[i + 1], member}
end
redis.call('HSET', own, 'summary', ARGV[3], 'manifest', ARGV[4], 'content', ARGV[5], 'model', ARGV[6],
  'prefixes', cjson.encode(prefixes))
redis.call('ZADD', KEYS[1], redis.call('INCR', KEYS[2]), ARGV[2])
return {'new'}
"""

_DELETE = """
-- KEYS: contexts   ARGV: prefix, id
-- Returns {'gone', content} or {'missing'}.
local own = ARGV[1] .. 'context:' .. ARGV[2]
local found = redis.call('HMGET', own, 'content', 'model', 'prefixes')
if not found[1] then return {'missing'} end
for _, part in ipairs(cjson.decode(found[3])) do
  redis.call('SREM', ARGV[1] .. 'context-prefix:' .. found[2] .. ':' .. part[2], part[3])
  if redis.call('HINCRBY', ARGV[1] .. 'context-ends:' .. found[2], part[1], -1) < 1 then
    redis.call('HDEL', ARGV[1] .. 'context-ends:' .. found[2], part[1])
  end
end
redis.call('DEL', own)
redis.call('ZREM', KEYS[1], ARGV[2])
return {'gone', found[1]}
"""


class Match(NamedTuple):
    """A stored context that a text begins like: its id, how many of its chunks, and their tokens."""

    context_id: str
    chunks: int
    tokens: int


class ContextCatalogue:
    """Stored contexts by id; blocks, and may be called from any thread.

    Every method raises Unavailable (JOB_STORE_UNAVAILABLE) if Redis does not answer.
    """

    def __init__(self, client: redis.Redis, prefix: str, artifacts: ArtifactStore) -> None:
        self._redis, self._prefix, self._artifacts = client, prefix, artifacts
        self._put = client.register_script(_PUT)
        self._delete = client.register_script(_DELETE)

    def put(self, context: pb.Context, content: str) -> pb.Context:
        """Add a context whose artefacts are all stored; if it is there with the same content, return that.

        Parameters
        ----------
        context
            Complete.
        content
            Digest of everything that decides what the context is; see ``content_of``.

        Raises
        ------
        AlreadyExists
            CONTEXT_EXISTS: the id is taken by another content.
        """
        context_id = id_of(context.name)
        manifest = self._artifacts.put_bytes(context.SerializeToString(deterministic=True), MANIFEST_TYPE)
        digests = [e.artifact for chunk in context.chunks for e in chunk.encodings]
        digests += [manifest.digest, context.tokens_artifact, *filter(None, [context.profile])]
        owner = _owner(context_id, content)
        self._artifacts.references.add(owner, sorted(set(digests)))
        pairs = [part for c in context.chunks for part in (c.start + c.tokens, c.prefix_digest)]
        with translated():
            (answer,) = cast(
                list[bytes],
                self._put(
                    keys=[f"{self._prefix}contexts", f"{self._prefix}contexts:next"],
                    args=[
                        self._prefix,
                        context_id,
                        _summary(context),
                        manifest.digest,
                        content,
                        context.model_fingerprint,
                        *pairs,
                    ],
                ),
            )
        if answer == b"other":
            self._artifacts.references.remove_owner(owner)
            raise _exists(context_id)
        return self.get(context.name) if answer == b"same" else context

    def find(self, context_id: str, content: str) -> pb.Context | None:
        """Return a context that is there already with this content; None if the id is free.

        Raises
        ------
        AlreadyExists
            CONTEXT_EXISTS: the id is taken by another content.
        """
        with translated():
            found = cast(bytes | None, self._redis.hget(f"{self._prefix}context:{context_id}", "content"))
        if found is None:
            return None
        if found.decode() != content:
            raise _exists(context_id)
        return self.get(f"contexts/{context_id}")

    def get(self, name: str) -> pb.Context:
        """Look a context up, with its chunks.

        Raises
        ------
        NotFound
            CONTEXT_NOT_FOUND.
        """
        with translated():
            manifest = cast(
                bytes | None, self._redis.hget(f"{self._prefix}context:{id_of(name)}", "manifest")
            )
        if manifest is None:
            raise _not_found(name)
        return pb.Context.FromString(self._artifacts.read_bytes(manifest.decode()))

    def token_bytes(self, context: pb.Context) -> bytes:
        """Return a context's token ids, little-endian 32-bit numbers."""
        return self._artifacts.read_bytes(context.tokens_artifact)

    def list(self, page_size: int = 0, page_token: str = "", model: str = "") -> tuple[list[pb.Context], str]:
        """One page of contexts without their chunks, oldest first, and the token of the next; empty after the last.

        Raises
        ------
        InvalidArgument
            PAGE_TOKEN_INVALID.
        """
        size = min(page_size, _MOST_PER_PAGE) if page_size else _PAGE_SIZE
        if page_token and not page_token.isdecimal():
            message = "This is not a page token of this method. Begin again without one."
            raise InvalidArgument.field(Reason.PAGE_TOKEN_INVALID, "page_token", message)
        found: list[pb.Context] = []
        after = page_token or "0"
        while True:
            with translated():
                rows = cast(
                    "list[tuple[bytes, float]]",
                    self._redis.zrangebyscore(
                        f"{self._prefix}contexts", f"({after}", "+inf", 0, size, withscores=True
                    ),
                )
                with self._redis.pipeline(transaction=False) as pipe:
                    for context_id, _ in rows:
                        pipe.hget(f"{self._prefix}context:{context_id.decode()}", "summary")
                    summaries = pipe.execute()
            for (_, place), summary in zip(rows, summaries, strict=True):
                context = json_format.Parse(summary, pb.Context()) if summary else None
                after = str(int(place))
                if context is not None and model in ("", context.model):
                    found.append(context)
                    if len(found) == size:
                        return found, after
            if len(rows) < size:
                return found, ""

    def delete(self, name: str) -> None:
        """Forget a context; its artefacts are free for collection unless something else needs them.

        Raises
        ------
        NotFound
            CONTEXT_NOT_FOUND.
        """
        with translated():
            answer, *rest = cast(
                list[bytes],
                self._delete(keys=[f"{self._prefix}contexts"], args=[self._prefix, id_of(name)]),
            )
        if answer == b"missing":
            raise _not_found(name)
        self._artifacts.references.remove_owner(_owner(id_of(name), rest[0].decode()))

    def look_up(self, fingerprint: str, ids: Sequence[int]) -> Match | None:
        """Find the context of a model that shares the longest prefix of whole chunks with token ids.

        Time grows with the ids and with the number of different chunk ends stored for the model.
        """
        with translated():
            stored = cast(
                "dict[bytes, bytes]", self._redis.hgetall(f"{self._prefix}context-ends:{fingerprint}")
            )
        ends = sorted(end for end in map(int, stored) if end <= len(ids))
        hashes = prefix_digests(ids, ends)
        with translated(), self._redis.pipeline(transaction=False) as pipe:
            for digest in reversed(hashes):
                pipe.srandmember(f"{self._prefix}context-prefix:{fingerprint}:{digest}")
            members = pipe.execute()
        for end, member in zip(reversed(ends), members, strict=True):
            if member is not None:
                context_id, _, chunks = member.decode().rpartition("/")
                return Match(context_id, int(chunks), end)
        return None


def prefix_digests(ids: Sequence[int], ends: Sequence[int]) -> list[str]:
    """SHA-256 over the little-endian 32-bit ids before each of some ascending positions, in one pass."""
    data, running, at, found = memoryview(np.asarray(ids, dtype="<u4").tobytes()), hashlib.sha256(), 0, []
    for end in ends:
        running.update(data[4 * at : 4 * end])
        at = end
        found.append("sha256:" + running.copy().hexdigest())
    return found


def content_of(fingerprint: str, prefix_digest: str, **coding: object) -> str:
    """Digest of what a context is: model, tokens and how they are coded. Equal contents are stored once."""
    facts = {"format": 1, "model": fingerprint, "prefix": prefix_digest, **coding}
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def id_of(name: str) -> str:
    """The id in ``contexts/{id}``."""
    return name.removeprefix("contexts/")


def _summary(context: pb.Context) -> str:
    bare = pb.Context()
    bare.CopyFrom(context)
    bare.ClearField("chunks")
    return json_format.MessageToJson(bare, preserving_proto_field_name=True, indent=None)


def _owner(context_id: str, content: str) -> str:
    return f"context/{context_id}/{content[:16]}"


def _exists(context_id: str) -> AlreadyExists:
    message = (
        f"contexts/{context_id} is another context already: other tokens, model or coding. Use another id, or "
        "delete that one."
    )
    return AlreadyExists(Reason.CONTEXT_EXISTS, message, metadata={"context": context_id})


def _not_found(name: str) -> NotFound:
    message = f"There is no {name}. `palimpsest kv ls` shows those there are; create it first."
    return NotFound(Reason.CONTEXT_NOT_FOUND, message, metadata={"context": name})
