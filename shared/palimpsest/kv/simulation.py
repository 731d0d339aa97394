"""Simulate a load over a network whose bandwidth changes, with any policy; for estimates and benchmarks."""

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from palimpsest.kv.controller import CAUTION, LATE, Controller
from palimpsest.kv.plan import Decision, Load, Option, Receipt

SLOWEST, FASTEST = 1.0, 1e15
"""Bytes a second."""


@dataclass(frozen=True)
class Trace:
    """Bandwidth over time: constant for ``hold`` seconds each, bytes a second; the last value goes on for ever.

    Values outside of ``SLOWEST`` to ``FASTEST`` count as these: beyond them times are no longer numbers.
    """

    values: tuple[float, ...]
    hold: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", tuple(min(max(v, SLOWEST), FASTEST) for v in self.values))

    @classmethod
    def drawn(cls, seed: int, low: float, high: float, hold: float, steps: int = 64) -> "Trace":
        """Draw a trace with uniform values."""
        draw = random.Random(seed)
        return cls(tuple(draw.uniform(low, high) for _ in range(steps)), hold)

    def arrival(self, start: float, size: float) -> float:
        """Return when the last of ``size`` bytes arrives if the first is sent at ``start``."""
        now, left = start, size
        while True:
            piece = int(now / self.hold)
            rate = self.values[min(piece, len(self.values) - 1)]
            if piece >= len(self.values) - 1 or now + left / rate <= (piece + 1) * self.hold:
                return now + left / rate
            end = (piece + 1) * self.hold
            # Rounding may leave ``now`` on the near side of a boundary it has just reached.
            left -= max(0.0, end - now) * rate
            now = end if end > now else now + self.hold * 1e-9

    def carried(self, start: float, end: float) -> int:
        """Return the bytes that pass between two times."""
        total, now = 0.0, start
        while now < end:
            piece = min(int(now / self.hold + 1e-9), len(self.values) - 1)
            stop = end if piece == len(self.values) - 1 else min(end, (piece + 1) * self.hold)
            total += max(0.0, stop - now) * self.values[piece]
            now = stop if stop > now else now + self.hold * 1e-9
        return int(total)


@dataclass(frozen=True)
class _Flight:
    chunk: int
    option: Option
    begun: float
    arrival: float


@dataclass(frozen=True)
class Outcome:
    """How a load went.

    Parameters
    ----------
    finish
        When everything was usable, in seconds.
    first
        When the first chunk of the context was usable.
    loss
        Mean loss, in nats a token.
    fetched
        Bytes.
    decisions
        Every commitment, in order.
    """

    finish: float
    first: float
    loss: float
    fetched: int
    decisions: tuple[Decision, ...]


def play(load: Load, trace: Trace) -> Outcome:
    """Let the controller load a context over ``trace``; transfer overlaps decoding and recomputing."""
    controller = Controller(load)
    decisions: list[Decision] = []
    network = compute = decoder = first = exact = 0.0
    fetched = 0
    flight: _Flight | None = None
    decoding: deque[tuple[float, int, str]] = deque()
    while flight or not controller.met:
        now = min(network, compute)
        while decoding and decoding[0][0] <= now:
            _, chunk, level = decoding.popleft()
            controller.decoded(chunk, level, 0.0)
        if flight and network <= compute:
            late = now < flight.arrival
            if late and controller.stalled(trace.carried(flight.begun, now), now - flight.begun, now):
                fetched += trace.carried(flight.begun, now)
                flight = None
            elif late:
                network = flight.arrival
            else:
                controller.received(Receipt(flight.option.size, now - flight.begun))
                decode = flight.option.decode
                if exact > now:  # and not merely a compute lane that has nothing left to do
                    # Half the processor each: decoding takes twice as long and recomputing waits that much more.
                    exact = compute = compute + decode
                    decode *= 2
                decoder = max(decoder, now) + decode
                decoding.append((decoder, flight.chunk, flight.option.level))
                fetched += flight.option.size
                first = decoder if flight.chunk == 0 else first
                flight = None
            continue
        if controller.met:
            # Only the chunk on its way is left.
            compute = max(compute, network) + 1e-9
            continue
        decision = controller.decide(now)
        if network <= compute and decision.fetch is not None:
            expected = controller.bandwidth / CAUTION
            option = controller.fetching(decision, now)
            decisions.append(decision)
            flight = _Flight(decision.fetch, option, now, trace.arrival(now, option.size))
            network = min(now + LATE * option.size / expected, flight.arrival)
        elif network <= compute and compute > now:
            # Nothing to fetch now: decide again when the compute lane has finished its chunk.
            network = compute
        elif decision.recompute is None:
            compute = max(network, now)
        else:
            ordered = controller.recomputing(decision, now)
            decisions.append(decision)
            compute = exact = now + ordered.recompute * load.sharers
            controller.recomputed(decision.recompute, compute - now)
            first = compute if decision.recompute == 0 else first
    return Outcome(
        max(exact, decoder),
        first,
        controller.losses / sum(c.tokens for c in load.chunks),
        fetched,
        tuple(decisions),
    )


Policy = Callable[[int, float, float], int | None]
"""``choose(chunk, now, bandwidth)`` gives a chunk's option, or None to recompute it."""


def play_fixed(load: Load, trace: Trace, choose: Callable[[int, float], int | None]) -> Outcome:
    """Load in order over one lane: ``choose(chunk, bandwidth)`` gives each chunk's option, or None to recompute it.

    ``choose`` gets the bandwidth of the moment, which a real policy does not know.
    """

    def knowing(number: int, now: float, measured: float) -> int | None:
        return choose(number, trace.values[min(int(now / trace.hold), len(trace.values) - 1)])

    return play_in_order(load, trace, knowing)


def play_in_order(load: Load, trace: Trace, choose: Policy) -> Outcome:
    """Load in order over one lane, as the paper does; transfer and decoding overlap, recomputing waits for both.

    ``choose`` gets the time, and the bandwidth measured on the last fetched chunk in bytes a second; before the first
    one, the bandwidth that ``load`` expects.
    """
    network = decoder = compute = first = losses = 0.0
    measured, fetched = load.bandwidth, 0
    for number, chunk in enumerate(load.chunks):
        at = choose(number, network, measured)
        if at is None:
            # Recomputing needs all before it.
            compute = decoder = max(compute, decoder, network) + chunk.recompute * load.sharers
            network = compute
        else:
            option = chunk.options[at]
            begun, network = network, trace.arrival(network, option.size)
            if network > begun:  # else too fast for the clock to tell
                measured = option.size / (network - begun)
            decoder = max(decoder, network) + option.decode
            losses += option.loss * chunk.tokens
            fetched += option.size
        first = decoder if number == 0 else first
    tokens = sum(chunk.tokens for chunk in load.chunks)
    return Outcome(max(decoder, compute), first, losses / tokens, fetched, ())
