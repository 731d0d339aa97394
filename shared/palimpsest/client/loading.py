"""What happens while a context is loaded, and what comes of it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from palimpsest.api.codec.v1 import codec_pb2

if TYPE_CHECKING:
    import numpy as np

    from palimpsest.kv import KeyValues

Decision = codec_pb2.LoadContextResponse.Decision

RECOMPUTE = "recompute"
"""The level of a chunk that is recomputed from its token ids."""
LOSS_BUDGET = 0.03
"""Nats a token that a loss budget of 0 stands for. Losses are bounds, two to four times what most chunks lose."""


@dataclass(frozen=True, eq=False)
class Opened:
    """The load has begun.

    Parameters
    ----------
    context
        With its chunks, as many as the context has.
    token_ids
        uint32, of all chunks that are loaded or held.
    """

    context: codec_pb2.Context
    token_ids: "np.ndarray"


@dataclass(frozen=True, eq=False)
class ChunkLoaded:
    """A chunk has arrived and is decoded.

    Parameters
    ----------
    index
        Which chunk of the context.
    level, size_bytes
        How it was sent.
    kv
        Its keys and values; ``kv.start`` is the position of its first token.
    decision
        Why it was sent so.
    """

    index: int
    level: str
    size_bytes: int
    kv: "KeyValues"
    decision: Decision


@dataclass(frozen=True, eq=False)
class RecomputeChunk:
    """Recompute this chunk from its ids when everything before it is there, and say so with ``recomputed()``."""

    index: int
    ids: "np.ndarray"
    decision: Decision


@dataclass(frozen=True)
class Abandoned:
    """A chunk on its way was given up: it was late or turned out damaged. It comes again, or is to be recomputed."""

    index: int
    reason: str


@dataclass(frozen=True)
class Ended:
    """Everything is there, or recomputed. Seconds are the server's; loss is the mean, in nats a token.

    ``over_budget``: no level keeps to the loss budget, so the finest was sent.
    """

    sent_bytes: int
    seconds: float
    loss: float
    recomputed_chunks: int
    over_budget: bool = False


Event = Opened | ChunkLoaded | RecomputeChunk | Abandoned | Ended


@dataclass(frozen=True, eq=False)
class ArrivingChunk:
    """A chunk of which some layers are decoded: in ``kv`` the leading ones are final, the rest is not set."""

    index: int
    level: str
    kv: "KeyValues"


@dataclass(frozen=True, eq=False)
class LoadedContext:
    """A context as it came.

    Parameters
    ----------
    context
        Its record.
    token_ids
        uint32, of what was loaded.
    kv
        Keys and values of the same tokens.
    chunks
        For each chunk its level, or ``"recompute"`` if it was recomputed, and its bytes on the wire.
    seconds
        From the request until everything was usable.
    loss
        Upper bound of the mean loss, in nats a token.
    over_budget
        The loss is more than the load's ``loss_budget``: no level keeps to it, and the finest was sent.
    """

    context: codec_pb2.Context
    token_ids: "np.ndarray"
    kv: "KeyValues"
    chunks: tuple[tuple[str, int], ...]
    seconds: float
    loss: float
    over_budget: bool = False

    @property
    def received_bytes(self) -> int:
        """Bytes of all chunks on the wire; those that were abandoned do not count."""
        return sum(size for _, size in self.chunks)

    def to_cache(self, config: object = None) -> object:
        """Return a transformers ``DynamicCache``, ready for ``past_key_values=``; config is the model's."""
        from palimpsest.kv import to_cache

        return to_cache(self.kv, config)  # type: ignore[arg-type]
