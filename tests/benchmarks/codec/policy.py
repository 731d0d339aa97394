"""Deadlines on links whose bandwidth changes: the controller against fixed levels and against the published rules.

Played, not timed: 200 traces, three deadlines and nine policies would take a day on a real link; ``codec.loading``
holds the player against one. The sizes are those of the coded chunks, losses and speeds those just measured. The
controller's constants were set on seeds 20,000 to 20,499; it is judged on 10,000 to 10,199.
"""

import statistics
import time

from palimpsest.kv import LEVELS, CalibrationProfile, KeyValues, encode
from palimpsest.kv.controller import Controller
from palimpsest.kv.plan import Chunk, Load, Option
from palimpsest.kv.simulation import Outcome, Trace, play, play_fixed, play_in_order
from tests.benchmarks.codec.models import PIECE, PREFIX
from tests.benchmarks.codec.quality import Mean
from tests.benchmarks.figures import Figures
from tests.kv_references import paper_rule, shared_rule

SEEDS = range(10_000, 10_200)
SHARES = (0.25, 0.5, 0.75)
LOW, HIGH = 0.02, 2.0
"""Bandwidths are uniform between these, in B*: U(0.1, 10) where B* is 5."""
U8_LOSS = 1e-4


def chunks_of(
    kv: KeyValues, profile: CalibrationProfile, means: dict[str, Mean], seconds: dict[str, float]
) -> tuple[Chunk, ...]:
    """A context as the controller sees it: 8-bit numbers are one more level, free of decoding."""
    layers, values = kv.geometry.layers, kv.geometry.values_per_token
    found = []
    for part in kv.chunks(PIECE):
        coded = encode(part, levels=list(LEVELS), profile=profile)
        share = part.tokens / PREFIX
        options = [Option("u8", (values + 4 * layers) * part.tokens, U8_LOSS, 0.0)]
        options += [
            Option(name, len(data), means[f"transform {name}"][1], seconds[name] * share)
            for name, data in coded.items()
        ]
        found.append(Chunk(part.tokens, seconds["prefill"] * share, tuple(options)))
    return tuple(found)


def policies(chunks: tuple[Chunk, ...], text: float, raw: int, figures: Figures) -> None:
    """Violations and divergence of every policy."""
    tie = raw / text
    levels = range(len(chunks[0].options))
    ahead = 0.0
    for share in SHARES:
        job = Load(chunks, share * text)
        traces = [Trace.drawn(seed, LOW * tie, HIGH * tie, text / 10) for seed in SEEDS]
        fixed = {
            chunks[0].options[at].level: [play_fixed(job, trace, lambda n, b, at=at: at) for trace in traces]
            for at in levels
        }
        runs: dict[str, list[Outcome]] = {
            "adaptive": [play(job, trace) for trace in traces],
            **fixed,
            "paper's rule": [play_in_order(job, trace, paper_rule(job, levels)) for trace in traces],
            "published code's rule": [play_fixed(job, trace, shared_rule(job, levels)) for trace in traces],
        }
        late = {n: 100 * statistics.fmean(o.finish > job.deadline for o in each) for n, each in runs.items()}
        loss = {n: statistics.fmean(o.loss for o in each) for n, each in runs.items()}
        # Of the fixed levels that are late least often, the finest.
        best = min(fixed, key=lambda name: (late[name], loss[name]))
        figures.figure(
            f"deadline {share} of text, {len(SEEDS)} traces: % late, KL",
            "; ".join(f"{name} {late[name]:.1f}, {loss[name]:.4f}" for name in runs),
        )
        name = f"deadline {share} of text (played)"
        figures.gate(f"{name}: % late, adaptive - best fixed ({best})", "<= 2", late["adaptive"] - late[best])
        figures.gate(f"{name}: KL, adaptive / best fixed", "<= 1", loss["adaptive"] / loss[best])
        gap = late["adaptive"] - late["paper's rule"]
        figures.gate(f"{name}: % late, adaptive - paper's rule", "<= 0", gap)
        ahead += gap
    figures.gate("all deadlines (played): % late, adaptive - paper's rule", "< 0", ahead / len(SHARES))
    decisions(chunks, text, figures)


def decisions(chunks: tuple[Chunk, ...], text: float, figures: Figures) -> None:
    """Time of one decision, at the start of a long context, where there is most to consider."""
    controller = Controller(Load(chunks * 8, text))
    taken = []
    for _ in range(50):
        start = time.perf_counter()
        controller.decide(0.0)
        taken.append(time.perf_counter() - start)
    figures.gate(f"milliseconds a decision, {8 * len(chunks)} chunks", "<= 2", statistics.median(taken) * 1e3)
