"""The catalogue of stored contexts: summaries in Redis, chunk lists and bitstreams as artefacts.

Keys, all under the installation's prefix:

``contexts``                       ZSET of context ids in the order of creation
``contexts:next``                  the number given last in that order
``context:<id>``                   HASH: ``summary`` (JSON, no chunks), ``manifest`` (digest), ``content``, ``model``,
                                   ``prefixes`` (JSON)
``context-prefix:<model>:<hash>``  SET of ``<id>/<chunks>`` whose first chunks have this prefix hash
``context-ends:<model>``           HASH: token count at which some chunk ends -> how many chunks do

Each change is one step of :mod:`palimpsest.catalogue`: a context is there with all its prefixes or not at all.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

import numpy as np
import redis
from google.protobuf import json_format

from palimpsest.api.codec.v1 import codec_pb2 as pb
from palimpsest.artifacts import ArtifactStore
from palimpsest.catalogue import Catalogue, Layout, Links
from palimpsest.errors import AlreadyExists, NotFound, Reason
from palimpsest.redis import translated

MANIFEST_TYPE = "application/x-palimpsest-context"


@dataclass(frozen=True)
class _Entry:
    """What Redis keeps of a context.

    Attributes
    ----------
    summary
        The context without its chunks, as JSON.
    manifest
        Digest of the artefact with the whole context.
    content, model
        What the context is, see :func:`content_of`; its model's fingerprint.
    prefixes
        ``[end, hash, "<id>/<chunks>"]`` of each chunk, as JSON.
    """

    summary: str
    manifest: str
    content: str
    model: str
    prefixes: str

    @property
    def context(self) -> pb.Context:
        return json_format.Parse(self.summary, pb.Context())


_FIELDS = ("content", "summary", "manifest", "model", "prefixes")


class Match(NamedTuple):
    """A stored context that shares a prefix with a text: its id, how many of its chunks, and their tokens."""

    context_id: str
    chunks: int
    tokens: int


class ContextCatalogue:
    """Stored contexts by id; blocks, and may be called from any thread.

    Every method raises Unavailable (JOB_STORE_UNAVAILABLE) if Redis does not answer.
    """

    def __init__(self, client: redis.Redis, prefix: str, artifacts: ArtifactStore) -> None:
        self._redis, self._prefix, self._artifacts = client, prefix, artifacts
        layout = Layout(
            index=f"{prefix}contexts",
            row=lambda context_id: f"{prefix}context:{context_id}",
            fields=lambda _: _FIELDS,
            write=lambda entry: [getattr(entry, name) for name in _FIELDS],
            read=lambda values: _Entry(**dict(zip(_FIELDS, values, strict=True))),
            links=self._links,
            size=lambda values: len(values[_FIELDS.index("summary")].encode()),
        )
        self._entries: Catalogue[_Entry] = Catalogue(client, layout, _not_found)

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
        ends = [
            (chunk.start + chunk.tokens, chunk.prefix_digest, f"{context_id}/{count}")
            for count, chunk in enumerate(context.chunks, 1)
        ]
        entry = _Entry(
            _summary(context), manifest.digest, content, context.model_fingerprint, json.dumps(ends)
        )
        there = self._entries.put(context_id, entry)
        if there is None:
            return context
        if there.content != content:
            self._artifacts.references.remove_owner(owner)
            raise _exists(context_id)
        return self._whole(there)

    def find(self, context_id: str, content: str) -> pb.Context | None:
        """Return a context that is there already with this content; None if the id is free.

        Raises
        ------
        AlreadyExists
            CONTEXT_EXISTS: the id is taken by another content.
        """
        found = self._entries.find(context_id)
        if found is None:
            return None
        if found.content != content:
            raise _exists(context_id)
        return self._whole(found)

    def get(self, name: str) -> pb.Context:
        """Look a context up, with its chunks.

        Raises
        ------
        NotFound
            CONTEXT_NOT_FOUND.
        """
        return self._whole(self._entries.get(id_of(name)))

    def token_bytes(self, context: pb.Context) -> bytes:
        """Return a context's token ids, little-endian 32-bit integers."""
        return self._artifacts.read_bytes(context.tokens_artifact)

    def list(self, page_size: int = 0, page_token: str = "", model: str = "") -> tuple[list[pb.Context], str]:
        """One page of contexts without their chunks, oldest first, and the token of the next; empty after the last.

        Raises
        ------
        InvalidArgument
            PAGE_TOKEN_INVALID.
        """
        entries, token = self._entries.list(
            page_size, page_token, (lambda entry: entry.context.model == model) if model else None
        )
        return [entry.context for entry in entries], token

    def delete(self, name: str) -> None:
        """Forget a context; its artefacts are free for collection unless something else needs them.

        Raises
        ------
        NotFound
            CONTEXT_NOT_FOUND.
        """
        gone = self._entries.delete(id_of(name))
        self._artifacts.references.remove_owner(_owner(id_of(name), gone.content))

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

    def _whole(self, entry: _Entry) -> pb.Context:
        return pb.Context.FromString(self._artifacts.read_bytes(entry.manifest))

    def _links(self, entry: _Entry) -> Links:
        ends = json.loads(entry.prefixes)
        return Links(
            members=[(f"{self._prefix}context-prefix:{entry.model}:{h}", member) for _, h, member in ends],
            counts=[(f"{self._prefix}context-ends:{entry.model}", str(end)) for end, _, _ in ends],
        )


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


def without_artifacts(context: pb.Context) -> pb.Context:
    """A context as its receivers see it: sizes, but not the digests of what they are sent."""
    bare = pb.Context()
    bare.CopyFrom(context)
    bare.ClearField("tokens_artifact")
    for chunk in bare.chunks:
        for encoding in chunk.encodings:
            encoding.ClearField("artifact")
    return bare


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
        f"contexts/{context_id} exists with other tokens, another model or coding. Use another id, or "
        "delete that one."
    )
    return AlreadyExists(Reason.CONTEXT_EXISTS, message, metadata={"context": context_id})


def _not_found(context_id: str) -> NotFound:
    name = f"contexts/{context_id}"
    message = f"There is no {name}. `palimpsest kv ls` lists contexts; create it first."
    return NotFound(Reason.CONTEXT_NOT_FOUND, message, metadata={"context": name})
