"""Turns a stored context and a caller's load settings into what the controller plans with."""

from collections.abc import Sequence
from itertools import pairwise

from palimpsest.api.codec.v1 import codec_pb2 as pb
from palimpsest.client.loading import LOSS_BUDGET
from palimpsest.errors import InvalidArgument, OutOfRange, Reason
from palimpsest.kv.plan import Chunk, Decision, Load, Option, prefill_seconds
from palimpsest.kv.simulation import FASTEST, SLOWEST, Trace, play, play_fixed
from services.codec.coding import loss_of

RECOMPUTE = "recompute"
DECODE_SPEED = 5_000.0
"""Tokens decoded a second if neither the receiver nor the calibration gives a speed. Low: plans are to be cautious."""
NO_DEADLINE = 60.0
"""Deadline, in seconds, of a load that has none and whose receiver cannot recompute."""
LONGEST = 1e9
"""Seconds that stand for all longer ones, so that sums of them stay finite."""
SHORTEST = 1e-9
"""Seconds of the shortest deadline that is planned for."""


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
        KV_LEVEL_UNKNOWN; KV_PLAN_INVALID: MODE_QUALITY without a deadline.
    OutOfRange
        KV_RANGE: the context does not have these chunks.
    """
    settings = _bounded(settings)
    chunks = _chunks(context, settings, speeds, first, last or len(context.chunks))
    deadline = settings.deadline_seconds
    quality = settings.mode == pb.LoadSettings.MODE_QUALITY or (
        settings.mode == pb.LoadSettings.MODE_UNSPECIFIED and deadline > 0
    )
    if quality and not deadline:
        raise InvalidArgument.field(
            Reason.KV_PLAN_INVALID,
            "settings.deadline_seconds",
            "MODE_QUALITY needs a deadline; give one, or use MODE_DELAY with a loss_budget.",
        )
    return Load(
        tuple(chunks),
        max(SHORTEST, deadline or sum(chunk.recompute for chunk in chunks) or NO_DEADLINE),
        mode="quality" if quality else "delay",
        loss_budget=settings.loss_budget or LOSS_BUDGET,
        tail=settings.tail_seconds,
        bandwidth=settings.bandwidth,
        sharers=settings.sharers or 1,
        recompute=bool(settings.recompute),
    )


def _bounded(settings: pb.LoadSettings) -> pb.LoadSettings:
    """Settings whose speeds are within reason: beyond, times are infinite or zero, and no plan is made from these."""
    bounded = pb.LoadSettings()
    bounded.CopyFrom(settings)
    for name, least, most in (("bandwidth", SLOWEST, FASTEST), ("decode_tokens_per_second", 1e-3, 1e12)):
        if value := getattr(settings, name):
            setattr(bounded, name, min(max(value, least), most))
    return bounded


def _chunks(
    context: pb.Context, settings: pb.LoadSettings, speeds: dict[str, float], first: int, last: int
) -> list[Chunk]:
    """The chunks ``first .. last - 1``, with what it takes to recompute each and to fetch it at each level."""
    count = len(context.chunks)
    if not 0 <= first < last <= count:
        raise OutOfRange(
            Reason.KV_RANGE,
            f"Chunks {first} to {last - 1} are out of range: {context.name} has {count}, counted from 0.",
            metadata={"chunks": count},
        )
    levels = _levels(context, settings)
    losses = {level.level: level.loss for level in context.levels}
    curve = curve_of(settings.recompute)
    speed = {
        level: settings.decode_tokens_per_second or speeds.get(level, 0) or DECODE_SPEED for level in levels
    }
    chunks: list[Chunk] = []
    for chunk in context.chunks[first:last]:
        stored = {encoding.level: encoding for encoding in chunk.encodings}
        options = tuple(
            Option(
                level,
                stored[level].size_bytes,
                loss_of(stored[level], losses),
                min(chunk.tokens / speed[level], LONGEST),
            )
            for level in levels
        )
        end = chunk.start + chunk.tokens
        seconds = prefill_seconds(curve, end) - prefill_seconds(curve, chunk.start)
        chunks.append(Chunk(chunk.tokens, seconds, options))
    return chunks


def _levels(context: pb.Context, settings: pb.LoadSettings) -> list[str]:
    stored = [level.level for level in context.levels]
    unknown = [level for level in settings.levels if level not in stored]
    if unknown:
        raise InvalidArgument.field(
            Reason.KV_LEVEL_UNKNOWN,
            "settings.levels",
            f"{context.name} is not stored at level {unknown[0]!r}; its levels are {', '.join(stored)}.",
        )
    return [level for level in stored if level in settings.levels] if settings.levels else stored


def curve_of(points: Sequence[pb.RecomputePoint]) -> list[tuple[int, float]]:
    """The receiver's points of tokens and seconds.

    Raises
    ------
    InvalidArgument
        KV_PLAN_INVALID: the points are not in order, or time runs backwards.
    """
    curve = [(point.tokens, point.seconds) for point in points]
    if any(b[0] <= a[0] or b[1] < a[1] for a, b in pairwise([(0, 0.0), *curve])):
        raise InvalidArgument.field(
            Reason.KV_PLAN_INVALID,
            "settings.recompute",
            "Give the points of the recompute curve in order of tokens, with seconds that do not decrease.",
        )
    return curve


def decision_message(
    decision: Decision, chunk: int, level: str, offset: int, elapsed: float
) -> pb.LoadContextResponse.Decision:
    """Convert a decision about one chunk; ``offset`` is the index in the context of the load's first chunk."""
    return pb.LoadContextResponse.Decision(
        chunk=offset + chunk,
        level=level,
        split=offset + decision.split,
        finish_seconds=decision.finish,
        elapsed_seconds=elapsed,
        loss=decision.loss,
        bandwidth=decision.bandwidth,
        in_time=decision.feasible,
        over_budget=not decision.within_budget,
    )


def estimate(context: pb.Context, settings: pb.LoadSettings, speeds: dict[str, float]) -> pb.EstimateResponse:
    """Simulate a load on a link of steady bandwidth, and loads at each fixed level for comparison.

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
    trace = Trace((load.bandwidth,), LONGEST)
    outcome = play(load, trace)
    deadline = settings.deadline_seconds or float("inf")
    response = pb.EstimateResponse()

    def way(name: str, finish: float, loss: float, size: int) -> None:
        end = finish + load.tail
        over = load.mode == "delay" and loss > load.loss_budget
        response.ways.add(
            name=name, finish_seconds=end, loss=loss, bytes=size, in_time=end <= deadline, over_budget=over
        )

    way("adaptive", outcome.finish, outcome.loss, outcome.fetched)
    for at, option in enumerate(load.chunks[0].options):
        fixed = play_fixed(load, trace, lambda _number, _bandwidth, at=at: at)
        way(option.level, fixed.finish, fixed.loss, fixed.fetched)
    if load.recompute:
        way(RECOMPUTE, sum(chunk.recompute for chunk in load.chunks) * load.sharers, 0.0, 0)
    front, back = 0, len(load.chunks)
    for at, decision in enumerate(outcome.decisions):
        following = outcome.decisions[at + 1] if at + 1 < len(outcome.decisions) else None
        # Each decision covers both lanes and only one acted on it: the next decision shows which one moved on.
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
