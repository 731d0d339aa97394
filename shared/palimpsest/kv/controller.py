"""Decide, chunk by chunk, what to send and what to recompute, so that a context arrives on time with the least loss.

Two lanes work at once (CacheGen section 5.3 and appendix C.1, and the idea of Cake): the compute lane recomputes chunks
from the front, exactly, from their text, while the network lane fetches coded chunks from the back, until they meet. At
every chunk boundary the controller looks for a split point and a level for what is left: in time, with the least loss.
It plans with less bandwidth than it measures, prefers an early finish to a small gain in quality, and commits only
to the next chunk of each lane.

Pure and deterministic: times are arguments, and decisions are data that include the figures they are based on.
"""

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import NamedTuple

from palimpsest.errors import InvalidArgument, Reason
from palimpsest.kv.plan import Chunk, Decision, Load, Option, Receipt

SMOOTHING = 0.6
"""Weight of the newest receipt in the running mean of the bandwidth."""
CAUTION = 0.75
"""Share of the estimated bandwidth that plans count on: traces that dip must not break the deadline."""
MARGIN = 0.1
"""Share of the deadline that plans leave unused."""
RISK = 0.3
"""Penalty of a plan that uses all of the usable time, as a share of the coarsest level's loss."""
RISK_POWER = 4
"""Power of the used share of that time: how fast the penalty falls for plans that finish sooner."""
LATE = 1.5
"""A chunk that takes this many times its predicted time is late: see ``Controller.stalled``."""
GIVE_UP = 0.9
"""A late chunk is abandoned if keeping it misses the deadline and redoing it ends within this share of that time."""
PATIENCE = 0.05
"""A finer or coarser level than the last must gain at least this share of loss or time."""


class Controller:
    """The state of one load: two lanes, an estimate of the bandwidth, and what has been decided.

    ``decide`` may be called any number of times; ``fetching`` and ``recomputing`` commit a lane to its next chunk.
    """

    def __init__(self, load: Load) -> None:
        self.load = load
        self.front = 0
        self.back = len(load.chunks)
        self.losses = 0.0
        self._on_way, self._way_since = 0, 0.0
        self._compute_free = 0.0
        self._undecoded: dict[int, float] = {}
        self._last = self._mean = load.bandwidth
        self._slowness = self._decode_slowness = 1.0
        self._level: int | None = None
        options = range(len(load.chunks[0].options))
        self._sizes = [_sums([chunk.options[q].size for chunk in load.chunks]) for q in options]
        self._decodes = [_sums([chunk.options[q].decode for chunk in load.chunks]) for q in options]
        self._losses = [
            _sums([chunk.options[q].loss * chunk.tokens for chunk in load.chunks]) for q in options
        ]
        self._recompute = _sums([chunk.recompute * load.sharers for chunk in load.chunks])
        # Before the first receipt: as if the middle level took half the time. Wrong guesses are noticed as late chunks.
        self._guess = 2 * self._sizes[len(self._sizes) // 2][-1] / load.deadline
        self._tokens = sum(chunk.tokens for chunk in load.chunks)

    @property
    def met(self) -> bool:
        """Whether the lanes have met: every chunk is fetched, recomputed, or being so."""
        return self.front >= self.back

    @property
    def compute_free(self) -> float:
        """When the receiver should have recomputed what it was ordered, in seconds from the start."""
        return self._compute_free

    @property
    def bandwidth(self) -> float:
        """Bytes a second that plans count on."""
        return (min(self._last, self._mean) or self._guess) * CAUTION

    def received(self, receipt: Receipt) -> None:
        """Record what arrived; a chunk may take several receipts."""
        self._on_way = max(0, self._on_way - receipt.size)
        self._way_since += receipt.seconds
        self._measure(receipt)

    def _measure(self, receipt: Receipt) -> None:
        if receipt.seconds > 0:
            self._last = receipt.size / receipt.seconds
            self._mean = (
                self._last if not self._mean else SMOOTHING * self._last + (1 - SMOOTHING) * self._mean
            )

    def recomputed(self, chunk: int, seconds: float) -> None:
        """Record how long recomputing a chunk took."""
        expected = self._recompute[chunk + 1] - self._recompute[chunk]
        if expected > 0 and seconds > 0:
            self._slowness = SMOOTHING * seconds / expected + (1 - SMOOTHING) * self._slowness

    def decoded(self, chunk: int, level: str, seconds: float) -> None:
        """Record that the receiver has decoded a chunk, and how long that took; 0: not known."""
        self._undecoded.pop(chunk, None)
        expected = next(o.decode for o in self.load.chunks[chunk].options if o.level == level)
        if expected > 0 and seconds > 0:
            self._decode_slowness = SMOOTHING * seconds / expected + (1 - SMOOTHING) * self._decode_slowness

    def lost(self, chunk: int) -> None:
        """Record that a chunk that was sent will not be decoded."""
        self._undecoded.pop(chunk, None)

    def taken(self, chunk: int, level: str | None, now: float) -> None:
        """Record that the receiver recomputes a chunk of its own accord.

        Parameters
        ----------
        chunk
            The front, or a chunk that was sent.
        level
            The level it was sent at; None: it was not.
        now
            Seconds from the start.
        """
        if level is not None:
            option = next(o for o in self.load.chunks[chunk].options if o.level == level)
            self.losses -= option.loss * self.load.chunks[chunk].tokens
            self._undecoded.pop(chunk, None)
        elif chunk == self.front:
            self.front += 1
        self._occupy(chunk, now)

    def decide(self, now: float) -> Decision:
        """Choose the split point and level for what is left, at ``now`` seconds from the start."""
        plans = [self._plan(now, split, level) for split, level in self._candidates()]
        load = self.load
        budget = load.loss_budget * self._tokens + 1e-12

        def fits(plan: "_Plan") -> bool:
            return plan.finish <= self._usable if load.mode == "quality" else plan.loss <= budget

        feasible = [plan for plan in plans if fits(plan)]
        if feasible and load.mode == "quality":
            best = min(feasible, key=lambda plan: (self._regret(plan), plan.finish))
            best = self._keep(best, feasible, self._regret)
        elif feasible or load.mode == "quality":
            best = min(feasible or plans, key=lambda plan: (plan.finish, plan.loss))
            best = self._keep(best, feasible or plans, lambda plan: plan.finish)
        else:  # no plan keeps to the budget: come as near to it as can be
            best = min(plans, key=lambda plan: (plan.loss, plan.finish))
        fetch = self.back - 1 if best.split < self.back else None
        recompute = self.front if load.recompute and self.front < best.split else None
        return Decision(
            fetch,
            load.chunks[0].options[best.level].level,
            recompute,
            best.split,
            best.finish,
            best.loss / self._tokens,
            self.bandwidth,
            best.finish <= self._usable,
            load.mode == "quality" or best.loss <= budget,
        )

    def fetching(self, decision: Decision, now: float) -> Option:
        """Commit the network lane to the decision's chunk; returns what to send."""
        if decision.fetch is None or decision.fetch != self.back - 1:
            raise InvalidArgument(
                Reason.KV_PLAN_INVALID, "The decision is stale or fetches nothing; decide again."
            )
        chunk = self.load.chunks[decision.fetch]
        level = next(at for at, option in enumerate(chunk.options) if option.level == decision.level)
        option = chunk.options[level]
        self.back -= 1
        self._level = level
        self.losses += option.loss * chunk.tokens
        self._way_since = self._way_since if self._on_way else now
        self._on_way += option.size
        self._undecoded[decision.fetch] = option.decode
        return option

    def recomputing(self, decision: Decision, now: float) -> Chunk:
        """Commit the compute lane to the decision's chunk."""
        if decision.recompute is None or decision.recompute != self.front:
            raise InvalidArgument(
                Reason.KV_PLAN_INVALID, "The decision is stale or recomputes nothing; decide again."
            )
        self._occupy(self.front, now)
        self.front += 1
        return self.load.chunks[self.front - 1]

    def _occupy(self, chunk: int, now: float) -> None:
        seconds = (self._recompute[chunk + 1] - self._recompute[chunk]) * self._slowness
        self._compute_free = max(now, self._compute_free) + seconds

    def stalled(self, arrived: int, seconds: float, now: float) -> bool:
        """Reconsider the chunk on its way, of which ``arrived`` bytes came in ``seconds``: call once it is late.

        Returns
        -------
        bool
            Whether to abandon it; it must then be sent again coarser, or recomputed. What arrived is lost.
        """
        chunk, level = self.load.chunks[self.back], self._level or 0
        option = chunk.options[level]
        self._measure(Receipt(max(1, arrived), seconds))
        left = option.size - arrived
        self._on_way, self._way_since = left, now
        keep = self.decide(now)
        self.back += 1
        self.losses -= option.loss * chunk.tokens
        self._on_way = 0
        decode = self._undecoded.pop(self.back - 1, 0.0)
        again = self.decide(now)
        if again.finish < GIVE_UP * keep.finish and not keep.feasible:
            return True
        self.back -= 1
        self._undecoded[self.back] = decode
        self.losses += option.loss * chunk.tokens
        self._on_way = left
        return False

    @property
    def _usable(self) -> float:
        return self.load.deadline * (1 - MARGIN) - self.load.tail

    def _regret(self, plan: "_Plan") -> float:
        """Loss plus a penalty that grows as the finish nears the deadline, which a dip of the link could then miss."""
        # Where there is no time at all, only what takes none is feasible.
        share = plan.finish / self._usable if self._usable > 0 else 0.0
        return plan.loss + RISK * self._losses[-1][-1] * share**RISK_POWER

    def _candidates(self) -> list[tuple[int, int]]:
        """Every remaining split with every level; the split that fetches nothing needs only one level."""
        levels = range(len(self._sizes))
        if not self.load.recompute:
            return [(self.front, level) for level in levels]
        fetched = [(split, level) for split in range(self.front, self.back) for level in levels]
        return [*fetched, (self.back, self._level or 0)]

    def _network_free(self, now: float) -> float:
        """When the data on its way will have arrived, at the current bandwidth."""
        return max(now, self._way_since + self._on_way / self.bandwidth) if self._on_way else now

    def _plan(self, now: float, split: int, level: int) -> "_Plan":
        compute = 0.0
        if split > self.front:
            start = max(now, self._compute_free)
            compute = start + (self._recompute[split] - self._recompute[self.front]) * self._slowness
        network = decode = 0.0
        if split < self.back:
            size = self._sizes[level][self.back] - self._sizes[level][split]
            decode = self._decodes[level][self.back] - self._decodes[level][split]
            decode *= self._decode_slowness
            transfer = size / self.bandwidth
            last = decode / (self.back - split)
            network = self._network_free(now) + max(transfer, decode - last) + last
        if compute:
            # On the same processor each takes time from the other, also what has been sent and is not decoded yet.
            compute += decode + sum(self._undecoded.values()) * self._decode_slowness
        finish = max(compute, network, self._compute_free, self._network_free(now))
        loss = self.losses + self._losses[level][self.back] - self._losses[level][split]
        return _Plan(split, level, finish, loss)

    def _keep(self, best: "_Plan", plans: "Sequence[_Plan]", key: "Callable[[_Plan], float]") -> "_Plan":
        """Stay with the last level unless another gains enough."""
        if self._level is None or best.level == self._level or best.split >= self.back:
            return best
        same = [plan for plan in plans if plan.level == self._level and plan.split < self.back]
        if not same:
            return best
        stay = min(same, key=key)
        return stay if key(best) > (1 - PATIENCE) * key(stay) else best


class _Plan(NamedTuple):
    split: int
    level: int
    finish: float
    loss: float


def _sums(parts: Sequence[float]) -> list[float]:
    return list(accumulate(parts, initial=0.0))
