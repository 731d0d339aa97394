"""Storing a context: chunk after chunk encoded at every level and put into the store, then committed as one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from google.protobuf.timestamp_pb2 import Timestamp

from palimpsest.api.codec.v1 import codec_pb2 as pb
from palimpsest.artifacts import ArtifactStore
from palimpsest.kv import CalibrationProfile, Identity, KeyValues, Rotary
from palimpsest.kv.promises import Estimates, Losses, keep
from palimpsest.models import ModelRecord
from services.codec.coding import ChosenCoding, loss_of
from services.codec.contexts import ContextCatalogue, prefix_digests

CHUNK_TYPE = "application/x-palimpsest-kv"
TOKENS_TYPE = "application/x-palimpsest-token-ids"


@dataclass
class ContextWriter:
    """The context of some token ids, being written.

    Attributes
    ----------
    record
        The model.
    ids
        All token ids of the context.
    coding
        How chunks are coded.
    profile, rotary
        What the codec needs.
    losses
        Bounds what coded chunks lose; None: estimates, for want of the model.
    chunks
        Those stored so far, in order; those of an earlier attempt may be given.
    """

    artifacts: ArtifactStore
    record: ModelRecord
    ids: Sequence[int]
    coding: ChosenCoding
    profile: CalibrationProfile | None
    rotary: Rotary
    threads: int = 1
    losses: Losses | None = None
    chunks: list[pb.Chunk] = field(default_factory=list)

    @cached_property
    def prefixes(self) -> list[str]:
        """The prefix digest at the end of each chunk."""
        size = self.coding.chunk_tokens
        return prefix_digests(self.ids, [*range(size, len(self.ids), size), len(self.ids)])

    def add(self, kv: KeyValues) -> pb.Chunk:
        """Encode and store the next chunk.

        Raises
        ------
        InvalidArgument
            KV_NOT_FINITE.
        ResourceExhausted
            STORE_FULL.
        """
        prefix = self.prefixes[len(self.chunks)]
        kept = keep(
            kv,
            self.losses or Estimates(self.coding.means, self.profile),
            levels=self.coding.levels,
            codec=self.coding.codec,
            profile=self.profile,
            rotary=self.rotary,
            identity=Identity(
                model=self.record.fingerprint,
                tokenizer=self.record.tokenizer_fingerprint,
                prefix=prefix,
            ),
            threads=self.threads,
        )
        chunk = pb.Chunk(start=kv.start, tokens=kv.tokens, prefix_digest=prefix)
        for level, form in kept.items():
            info = self.artifacts.put_bytes(form.data, CHUNK_TYPE)
            chunk.encodings.add(
                level=level,
                artifact=info.digest,
                size_bytes=info.size_bytes,
                loss=form.loss,
                stored_level=form.stored_level,
            )
        self.chunks.append(chunk)
        return chunk

    def commit(
        self,
        catalogue: ContextCatalogue,
        principal: str,
        shape: pb.CacheShape,
        context_id: str,
        content: str,
        labels: Mapping[str, str],
    ) -> pb.Context:
        """Make the context visible to its principal; all its chunks have been added.

        Raises
        ------
        AlreadyExists
            CONTEXT_EXISTS.
        """
        tokens = self.artifacts.put_bytes(np.asarray(self.ids, dtype="<u4").tobytes(), TOKENS_TYPE)
        created = Timestamp()
        created.GetCurrentTime()
        width = shape.kv_heads * (shape.key_dim + shape.value_dim) * shape.layers
        context = pb.Context(
            name=f"contexts/{context_id}",
            model=self.record.model_id,
            model_fingerprint=self.record.fingerprint,
            token_count=len(self.ids),
            chunk_tokens=self.coding.chunk_tokens,
            codec=self.coding.codec,
            profile=self.coding.profile,
            shape=shape,
            levels=level_summaries(self.chunks),
            chunks=self.chunks,
            prefix_digest=self.prefixes[-1],
            tokens_artifact=tokens.digest,
            cache_bytes=len(self.ids) * width * (4 if shape.dtype == "float32" else 2),
            stored_bytes=sum({e.artifact: e.size_bytes for c in self.chunks for e in c.encodings}.values()),
            create_time=created,
            labels=dict(labels),
        )
        return catalogue.put(principal, context, content)


def level_summaries(
    chunks: Sequence[pb.Chunk], known: Mapping[str, float] | None = None
) -> list[pb.LevelSummary]:
    """Sizes and mean losses of some chunks at each level; ``known`` are losses of levels whose chunks have none."""
    found: dict[str, pb.LevelSummary] = {}
    tokens = sum(chunk.tokens for chunk in chunks)
    for chunk in chunks:
        for encoding in chunk.encodings:
            level = found.setdefault(encoding.level, pb.LevelSummary(level=encoding.level))
            level.size_bytes += encoding.size_bytes
            level.loss += loss_of(encoding, known or {}) * chunk.tokens / tokens
    return list(found.values())


def shape_of(kv: KeyValues, tokens: int) -> pb.CacheShape:
    """The shape of a whole cache of which this is a chunk."""
    g = kv.geometry
    return pb.CacheShape(
        layers=g.layers,
        kv_heads=g.kv_heads,
        key_dim=g.key_dim,
        value_dim=g.value_dim,
        dtype=kv.dtype_name,
        tokens=tokens,
    )
