"""Caches that callers send: whole ones to store, single chunks to encode or decode."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from palimpsest.api.codec.v1 import codec_pb2 as pb
from palimpsest.artifacts import ArtifactStore
from palimpsest.errors import FailedPrecondition, InvalidArgument, NotFound, Reason
from palimpsest.kv import CalibrationProfile, ChunkReader, Identity, KeyValues, Rotary
from palimpsest.kv.container import DECODED_LIMIT, header_size, read_header
from palimpsest.kv.promises import Estimates, Kept, keep
from palimpsest.models import ModelRecord
from services.codec.coding import choose_coding, profile_of, rotary_of
from services.codec.contexts import ContextCatalogue, prefix_digests
from services.codec.profiles import ProfileCatalogue
from services.codec.streams import geometry_of
from services.codec.writing import ContextWriter


@dataclass
class Put:
    """A cache about to be stored; ``existing`` is set if it is stored already."""

    writer: ContextWriter
    context_id: str
    content: str
    existing: pb.Context | None


def open_put(
    principal: str,
    shape: pb.CacheShape,
    coding: pb.Coding,
    context_id: str,
    ids: list[int],
    record: ModelRecord,
    artifacts: ArtifactStore,
    contexts: ContextCatalogue,
    profiles: ProfileCatalogue,
) -> Put:
    """Check a cache about to be stored against its model, and prepare to take its chunks.

    Parameters
    ----------
    principal
        Whose context it will be.
    shape, coding
        Of the cache; how it is to be coded.
    context_id
        Empty: an id made from the content.
    ids
        Its token ids.
    record
        Its model.
    artifacts, contexts, profiles
        Of the installation.

    Raises
    ------
    InvalidArgument
        KV_SHAPE: the shape disagrees with the tokens, or does not begin at 0.
    FailedPrecondition
        KV_IDENTITY_MISMATCH: the shape is not the model's. KV_PROFILE_MISSING.
    AlreadyExists
        CONTEXT_EXISTS.
    """
    if shape.tokens != len(ids) or shape.start:
        raise InvalidArgument.field(
            Reason.KV_SHAPE,
            "spec.shape",
            f"The shape has {shape.tokens} tokens from position {shape.start}, but {len(ids)} token ids were sent; a "
            "context begins at position 0 and has one id for each token.",
        )
    _check_model(shape, record)
    chosen = choose_coding(coding, record, profiles)
    prefix = prefix_digests(ids, [len(ids)])[0]
    content = chosen.content(record.fingerprint, prefix, shape.dtype)
    context_id = context_id or f"ctx-{content[:16]}"
    writer = ContextWriter(artifacts, record, ids, chosen, profile_of(chosen, profiles), rotary_of(record))
    return Put(writer, context_id, content, contexts.find(principal, context_id, content))


def _check_model(shape: pb.CacheShape, record: ModelRecord) -> None:
    model = record.geometry
    expected = (model.layers, model.kv_heads, model.head_dim, model.head_dim)
    g = geometry_of(shape)
    found = (g.layers, g.kv_heads, g.key_dim, g.value_dim)
    if found != expected:
        raise FailedPrecondition(
            Reason.KV_IDENTITY_MISMATCH,
            f"{record.model_id} has (layers, kv_heads, key_dim, value_dim) {expected}, but the cache {found}: "
            "it belongs to another model.",
            metadata={"found": found, "expected": expected},
        )


def encode_once(
    kv: KeyValues, asked: pb.Coding, record: ModelRecord | None, profiles: ProfileCatalogue
) -> dict[str, Kept]:
    """Encode a chunk that is not kept.

    Raises
    ------
    InvalidArgument, FailedPrecondition
        As ``palimpsest.kv.encode``.
    """
    coding = choose_coding(asked, record, profiles)
    profile, identity = profile_of(coding, profiles), Identity()
    if record is not None:
        identity = Identity(model=record.fingerprint, tokenizer=record.tokenizer_fingerprint)
    return keep(
        kv,
        Estimates(coding.means, profile),
        levels=coding.levels,
        codec=coding.codec,
        profile=profile,
        rotary=rotary_of(record) if record else Rotary(),
        identity=identity,
    )


class StreamDecoder:
    """Decodes a chunk while it arrives, with the profile its header names.

    Parameters
    ----------
    profiles
        Where the profile is found.
    sees
        Whether the caller may read an artefact: the header names the profile by its digest.
    limit
        Largest cache it may decode to, in bytes.
    """

    def __init__(self, profiles: ProfileCatalogue, sees: Callable[[str], bool], limit: int) -> None:
        self._profiles, self._sees, self._limit = profiles, sees, min(limit, DECODED_LIMIT)
        self._head = b""
        self._reader: ChunkReader | None = None

    def feed(self, data: bytes) -> None:
        """Decode the next bytes; raises the errors of ``ChunkReader``."""
        if self._reader is None:
            self._head += data
            if len(self._head) < 32 or len(self._head) < header_size(self._head):
                return
            meta = read_header(self._head, decoded_limit=self._limit).meta
            profile = self._profile(meta.profile) if meta.profile else None
            self._reader = ChunkReader(profile=profile, decoded_limit=self._limit)
            data, self._head = self._head, b""
        for _ in self._reader.feed(data):
            pass

    def finish(self) -> KeyValues:
        """Return the cache, once every byte has been fed.

        Raises
        ------
        DataLoss
            Bytes are missing, or there are too many.
        """
        return (self._reader or ChunkReader()).finish()

    def _profile(self, digest: str) -> CalibrationProfile:
        if self._sees(digest):
            with suppress(NotFound):
                return self._profiles.load(digest)
        raise FailedPrecondition(
            Reason.KV_PROFILE_MISSING,
            "The chunk's calibration profile is not on this server; upload it as an artefact, or encode again.",
            metadata={"profile": digest},
        )
