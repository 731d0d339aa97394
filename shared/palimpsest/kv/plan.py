"""A load to plan, and what its controller decides: plain data."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from palimpsest.errors import InvalidArgument, Reason

Mode = Literal["quality", "delay"]


@dataclass(frozen=True)
class Option:
    """One way to fetch a chunk.

    Parameters
    ----------
    level
        Its name.
    size
        Bytes on the wire.
    loss
        What using it costs at most, in nats a token; 0 is lossless.
    decode
        Seconds to decode it.
    """

    level: str
    size: int
    loss: float
    decode: float


@dataclass(frozen=True)
class Chunk:
    """A chunk of the context, finest option first; every chunk of a load offers the same levels."""

    tokens: int
    recompute: float
    options: tuple[Option, ...]


@dataclass(frozen=True)
class Load:
    """A context to load.

    Parameters
    ----------
    chunks
        In order.
    deadline
        Seconds from the start until everything has to be usable.
    mode
        ``"quality"``: least loss in time, where a small gain is not worth a close finish. ``"delay"``: soonest within
        ``loss_budget``.
    loss_budget
        Largest mean loss in ``"delay"`` mode, in nats a token. If no plan keeps to it, the one with the least loss is
        taken, and its decisions say so.
    tail
        Seconds needed after the last chunk, such as the prefill of the question.
    bandwidth
        Bytes a second to expect before the first receipt; 0: unknown.
    sharers
        Loads that share the compute lane; recomputing takes that many times as long.
    recompute
        Whether there is a compute lane at all.
    """

    chunks: tuple[Chunk, ...]
    deadline: float
    mode: Mode = "quality"
    loss_budget: float = 0.02
    tail: float = 0.0
    bandwidth: float = 0.0
    sharers: int = 1
    recompute: bool = True

    def __post_init__(self) -> None:
        names = [tuple(option.level for option in chunk.options) for chunk in self.chunks]
        sizes = [option.size for chunk in self.chunks for option in chunk.options]
        if not names or not names[0] or len(set(names)) != 1 or min(sizes) < 1:
            raise InvalidArgument(
                Reason.KV_PLAN_INVALID,
                "A load needs at least one chunk, and every chunk must offer the same levels, none of them empty.",
            )
        if self.deadline <= 0 or self.sharers < 1 or self.bandwidth < 0:
            raise InvalidArgument(
                Reason.KV_PLAN_INVALID,
                "The deadline must be above 0, sharers at least 1 and bandwidth at least 0.",
            )


def prefill_seconds(points: Sequence[tuple[int, float]], tokens: int) -> float:
    """Seconds to prefill a context's first tokens, by measured points in order of tokens; 0 without any.

    Linear between the points, from the start to the first, and beyond the last.
    """
    if not points:
        return 0.0
    pairs = list(pairwise([(0, 0.0), *points]))
    (t0, s0), (t1, s1) = next((pair for pair in pairs if tokens <= pair[1][0]), pairs[-1])
    return s0 + (s1 - s0) * (tokens - t0) / (t1 - t0)


def loss_of_chunks(chunks: Iterable[tuple[int, float | None]]) -> float:
    """Loss of a load, in nats a token of the whole: what server and receiver both tell of it.

    Parameters
    ----------
    chunks
        Of each chunk in order, its tokens and its loss; None for one that is recomputed. That is computed from those
        before it, and counts with the largest of their losses.
    """
    lost = worst = tokens = 0.0
    for count, own in chunks:
        worst = worst if own is None else max(worst, own)
        lost, tokens = lost + (worst if own is None else own) * count, tokens + count
    return lost / tokens


@dataclass(frozen=True)
class Receipt:
    """What the receiver saw: bytes that arrived and the seconds they took."""

    size: int
    seconds: float


@dataclass(frozen=True)
class Decision:
    """What to do next, and why.

    Parameters
    ----------
    fetch
        Chunk to fetch next, or None: the compute lane does the rest.
    level
        At which level.
    recompute
        Chunk to recompute next, or None.
    split
        First chunk that is fetched in the plan.
    finish
        When the plan expects to be done, in seconds from the start.
    loss
        Mean loss of the plan, in nats a token.
    bandwidth
        Bytes a second it counted on.
    feasible
        Whether the plan meets the deadline.
    within_budget
        Whether the plan's loss is within ``loss_budget``; always true in ``"quality"`` mode.
    """

    fetch: int | None
    level: str
    recompute: int | None
    split: int
    finish: float
    loss: float
    bandwidth: float
    feasible: bool
    within_budget: bool = True
