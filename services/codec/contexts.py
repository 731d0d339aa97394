"""The catalogue of stored contexts: summaries in Redis, chunk lists and bitstreams as artefacts.

A context belongs to a principal: the same id, and the same text, of two principals are two contexts.

Keys, all under the installation's prefix and then the principal's (``of:<principal>:``; the principal ``local`` has
none, so that what a server without a tokens file stored before contexts had owners is still there):

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
from palimpsest.catalogue import LOCAL, Catalogue, Layout, Links, quoted
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
    """Stored contexts by principal and id; blocks, and may be called from any thread.

    Every method raises Unavailable (JOB_STORE_UNAVAILABLE) if Redis does not answer.
    """

    def __init__(self, client: redis.Redis, prefix: str, artifacts: ArtifactStore) -> None:
        self._redis, self._prefix, self._artifacts = client, prefix, artifacts

    def put(self, principal: str, context: pb.Context, content: str) -> pb.Context:
        """Add a context whose artefacts are all stored; if it is there with the same content, return that.

        Parameters
        ----------
        principal
            Whose it is.
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
        owner = _owner(principal, context_id, content)
        self._artifacts.references.add(owner, sorted(set(digests)), principal)
        ends = [
            (chunk.start + chunk.tokens, chunk.prefix_digest, f"{context_id}/{count}")
            for count, chunk in enumerate(context.chunks, 1)
        ]
        entry = _Entry(
            _summary(context), manifest.digest, content, context.model_fingerprint, json.dumps(ends)
        )
        self._whole(entry)  # read once before anybody can find it
        there = self._of(principal).put(context_id, entry)
        if there is None:
            return context
        if there.content != content:
            self._artifacts.references.remove_owner(owner)
            raise _exists(context_id)
        return self._whole(there)

    def find(self, principal: str, context_id: str, content: str) -> pb.Context | None:
        """Return a principal's context that is there already with this content; None if the id is free.

        Raises
        ------
        AlreadyExists
            CONTEXT_EXISTS: the id is taken by another content.
        """
        found = self._of(principal).find(context_id)
        if found is None:
            return None
        if found.content != content:
            raise _exists(context_id)
        return self._whole(found)

    def get(self, principal: str, name: str) -> pb.Context:
        """Look a context up, with its chunks.

        Raises
        ------
        NotFound
            CONTEXT_NOT_FOUND: it does not exist, or belongs to another principal.
        """
        return self._whole(self._of(principal).get(id_of(name)))

    def token_bytes(self, context: pb.Context) -> bytes:
        """Return a context's token ids, little-endian 32-bit integers."""
        return self._artifacts.read_bytes(context.tokens_artifact)

    def list(
        self, principal: str, page_size: int = 0, page_token: str = "", model: str = ""
    ) -> tuple[list[pb.Context], str]:
        """One page of a principal's contexts without their chunks, oldest first, and the token of the next.

        The token is empty after the last page.

        Raises
        ------
        InvalidArgument
            PAGE_TOKEN_INVALID.
        """
        entries, token = self._of(principal).list(
            page_size, page_token, (lambda entry: entry.context.model == model) if model else None
        )
        return [entry.context for entry in entries], token

    def delete(self, principal: str, name: str) -> None:
        """Forget a context; its artefacts are free for collection unless something else needs them.

        Raises
        ------
        NotFound
            CONTEXT_NOT_FOUND: it does not exist, or belongs to another principal.
        """
        gone = self._of(principal).delete(id_of(name))
        self._artifacts.references.remove_owner(_owner(principal, id_of(name), gone.content))

    def look_up(self, principal: str, fingerprint: str, ids: Sequence[int]) -> Match | None:
        """Find the principal's context of a model that shares the longest prefix of whole chunks with token ids.

        Time grows with the ids and with the number of different chunk ends stored for the principal and the model.
        """
        keys = self._keys(principal)
        with translated():
            stored = cast("dict[bytes, bytes]", self._redis.hgetall(f"{keys}context-ends:{fingerprint}"))
        ends = sorted(end for end in map(int, stored) if end <= len(ids))
        hashes = prefix_digests(ids, ends)
        with translated(), self._redis.pipeline(transaction=False) as pipe:
            for digest in reversed(hashes):
                pipe.srandmember(f"{keys}context-prefix:{fingerprint}:{digest}")
            members = pipe.execute()
        for end, member in zip(reversed(ends), members, strict=True):
            if member is not None:
                context_id, _, chunks = member.decode().rpartition("/")
                return Match(context_id, int(chunks), end)
        return None

    def _whole(self, entry: _Entry) -> pb.Context:
        return pb.Context.FromString(self._artifacts.read_bytes(entry.manifest))

    def _keys(self, principal: str) -> str:
        return self._prefix if principal == LOCAL else f"{self._prefix}of:{quoted(principal)}:"

    def _of(self, principal: str) -> Catalogue[_Entry]:
        keys = self._keys(principal)
        layout = Layout(
            index=f"{keys}contexts",
            row=lambda context_id: f"{keys}context:{context_id}",
            fields=lambda _: _FIELDS,
            write=lambda entry: [getattr(entry, name) for name in _FIELDS],
            read=lambda values: _Entry(**dict(zip(_FIELDS, values, strict=True))),
            links=lambda entry: _links(keys, entry),
            size=lambda values: len(values[_FIELDS.index("summary")].encode()),
        )
        return Catalogue(self._redis, layout, _not_found)


def _links(keys: str, entry: _Entry) -> Links:
    ends = json.loads(entry.prefixes)
    return Links(
        members=[(f"{keys}context-prefix:{entry.model}:{h}", member) for _, h, member in ends],
        counts=[(f"{keys}context-ends:{entry.model}", str(end)) for end, _, _ in ends],
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
    """Digest of what a context is: model, tokens and how they are coded. A principal's equal contents are one."""
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


def _owner(principal: str, context_id: str, content: str) -> str:
    of = "" if principal == LOCAL else f"{quoted(principal)}/"
    return f"context/{of}{context_id}/{content[:16]}"


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
