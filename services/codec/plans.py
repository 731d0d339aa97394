"""From a stored context and what a caller says of itself to what the controller plans with."""

from collections.abc import Sequence
from itertools import pairwise

from palimpsest.api.codec.v1 import codec_pb2 as pb
from palimpsest.errors import InvalidArgument, OutOfRange, Reason
from palimpsest.kv.plan import Chunk, Decision, Load, Option
from palimpsest.kv.simulation import Trace, play, play_fixed

RECOMPUTE = "recompute"
LOSS_BUDGET = 0.015
DECODE_SPEED = 5_000.0
"""Tokens a second decoded, where neither the receiver nor the calibration says: slow, so that plans err to be late."""
NO_DEADLINE = 60.0
"""Seconds that stand in for a deadline where nothing else gives a scale."""


def plan(
    context: pb.Context,
    settings: pb.LoadSettings,
    speeds: dict[str, float],
    first: int = 0,
    last: int = 0,
) -> Load:
    """Build the controller's view of the chunks ``first .. last - 1`` (0: to the end).

    Parameters
    ----------
    context
        With its chunks.
    settings
        The caller's.
    speeds
        Tokens a second each level decodes at, where calibration measured it.
    first, last
        Which chunks.

    Raises
    ------
    InvalidArgument
        An unknown level, or QUALITY without a deadline.
    OutOfRange
        Chunks that the context has not.
    """
    last = last or len(context.chunks)
    if not 0 <= first < last <= len(context.chunks):
        raise OutOfRange(
            Reason.KV_RANGE,
            f"{context.name} has {len(context.chunks)} chunks; {first} to {last} are none of them.",
            metadata={"chunks": len(context.chunks)},
        )
    levels = _levels(context, settings)
    losses = {level.level: level.loss for level in context.levels}
    if settings.mode == pb.LoadSettings.MODE_QUALITY and not settings.deadline_seconds:
        raise InvalidArgument.field(
            Reason.KV_PLAN_INVALID,
            "settings.deadline_seconds",
            "MODE_QUALITY needs a deadline; give one, or use MODE_DELAY with a loss_budget.",
        )
    curve = Curve(settings.recompute)
    chunks = []
    for chunk in context.chunks[first:last]:
        sizes = {e.level: e.size_bytes for e in chunk.encodings}
        options = tuple(
            Option(
                level,
                sizes[level],
                losses[level],
                chunk.tokens / (settings.decode_tokens_per_second or speeds.get(level, 0) or DECODE_SPEED),
            )
            for level in levels
        )
        seconds = curve.seconds(chunk.start + chunk.tokens) - curve.seconds(chunk.start)
        chunks.append(Chunk(chunk.tokens, seconds, options))
    deadline = settings.deadline_seconds
    quality = settings.mode == pb.LoadSettings.MODE_QUALITY or (
        settings.mode == pb.LoadSettings.MODE_UNSPECIFIED and deadline > 0
    )
    return Load(
        tuple(chunks),
        deadline or sum(chunk.recompute for chunk in chunks) or NO_DEADLINE,
        mode="quality" if quality else "delay",
        loss_budget=settings.loss_budget or LOSS_BUDGET,
        tail=settings.tail_seconds,
        bandwidth=settings.bandwidth,
        sharers=settings.sharers or 1,
        recompute=bool(settings.recompute),
    )


def _levels(context: pb.Context, settings: pb.LoadSettings) -> list[str]:
    stored = [level.level for level in context.levels]
    unknown = [level for level in settings.levels if level not in stored]
    if unknown:
        raise InvalidArgument.field(
            Reason.KV_LEVEL_UNKNOWN,
            "settings.levels",
            f"{context.name} is not stored at {unknown[0]!r}; it is at {', '.join(stored)}.",
        )
    return [level for level in stored if level in settings.levels] if settings.levels else stored


class Curve:
    """Seconds to prefill a context's first tokens, through the receiver's points.

    Raises
    ------
    InvalidArgument
        The points are not in order, or time runs backwards.
    """

    def __init__(self, points: Sequence[pb.RecomputePoint]) -> None:
        self._points = [(0, 0.0), *((point.tokens, point.seconds) for point in points)]
        if any(b[0] <= a[0] or b[1] < a[1] for a, b in pairwise(self._points)):
            raise InvalidArgument.field(
                Reason.KV_PLAN_INVALID,
                "settings.recompute",
                "Points of the recompute curve come in order of tokens, and their seconds do not fall.",
            )

    def seconds(self, tokens: int) -> float:
        """Read the curve: linear between points and beyond the last."""
        if len(self._points) == 1:
            return 0.0
        pairs = list(pairwise(self._points))
        (t0, s0), (t1, s1) = next((pair for pair in pairs if tokens <= pair[1][0]), pairs[-1])
        return s0 + (s1 - s0) * (tokens - t0) / (t1 - t0)


def decision_message(
    decision: Decision, chunk: int, level: str, offset: int, elapsed: float
) -> pb.LoadContextResponse.Decision:
    """Show a decision about one chunk; ``offset`` is the context's number of the load's first chunk."""
    return pb.LoadContextResponse.Decision(
        chunk=offset + chunk,
        level=level,
        split=offset + decision.split,
        finish_seconds=decision.finish,
        elapsed_seconds=elapsed,
        loss=decision.loss,
        bandwidth=decision.bandwidth,
        in_time=decision.feasible,
    )


def estimate(context: pb.Context, settings: pb.LoadSettings, speeds: dict[str, float]) -> pb.EstimateResponse:
    """Play a load on a link of steady bandwidth, and the fixed ways beside it.

    Raises
    ------
    InvalidArgument
        As ``plan``; also no bandwidth.
    """
    if not settings.bandwidth:
        raise InvalidArgument.field(
            Reason.KV_PLAN_INVALID, "settings.bandwidth", "Give the link's bandwidth, in bytes a second."
        )
    load = plan(context, settings, speeds)
    trace = Trace((settings.bandwidth,), 1e9)
    outcome = play(load, trace)
    deadline = settings.deadline_seconds or float("inf")
    response = pb.EstimateResponse()

    def way(name: str, finish: float, loss: float, size: int) -> None:
        end = finish + load.tail
        response.ways.add(name=name, finish_seconds=end, loss=loss, bytes=size, in_time=end <= deadline)

    way("adaptive", outcome.finish, outcome.loss, outcome.fetched)
    for at, option in enumerate(load.chunks[0].options):
        fixed = play_fixed(load, trace, lambda _number, _bandwidth, at=at: at)
        way(option.level, fixed.finish, fixed.loss, fixed.fetched)
    if load.recompute:
        way(RECOMPUTE, sum(chunk.recompute for chunk in load.chunks) * load.sharers, 0.0, 0)
    front, back = 0, len(load.chunks)
    for at, decision in enumerate(outcome.decisions):
        following = outcome.decisions[at + 1] if at + 1 < len(outcome.decisions) else None
        # Each decision speaks of both lanes and was acted on in one: the next one shows which has moved on.
        fetched = decision.fetch == back - 1 and (
            decision.recompute is None
            or (following is not None and following.fetch is not None and following.fetch < back - 1)
        )
        chunk = back - 1 if fetched else front
        back, front = (back - 1, front) if fetched else (back, front + 1)
        response.decisions.append(
            decision_message(decision, chunk, decision.level if fetched else RECOMPUTE, 0, 0.0)
        )
    return response
