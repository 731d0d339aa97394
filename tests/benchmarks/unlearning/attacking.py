"""Attacks on unlearned models: what comes back, over what the same attack brings to a retrained one."""

from collections.abc import Sequence

from services.unlearning.attacks import (
    KNOWLEDGE,
    VERBATIM,
    Attack,
    Outcome,
    Row,
    of_prefixes,
    of_questions,
    quantisation,
    table,
)
from services.unlearning.attacks.measuring import knowledge, sampled_continuations, verbatim
from services.unlearning.attacks.quantisation import GGUF_FORMATS, cast, gguf_format, round_to_nearest
from tests.benchmarks.figures import Figures
from tests.benchmarks.unlearning.attacked import RELEARN_STEPS, TOKENS, Victims
from tests.benchmarks.unlearning.lab import TEMPLATE, Lab
from tests.benchmarks.unlearning.unlearned import Removal

METRICS = (VERBATIM, KNOWLEDGE)
BEST, PLAIN = "SimNPO+GDR", "NPO+GDR"
ROBUST = ("SAM-NPO+GDR", "UNDO of NPO+GDR", "RepSelect", "CIR")
SMALL = ("full at 1e-5", "LoRA at 1e-5")
WORSE = 5.0
"""Points of utility that a robust method may lose against NPO+GDR: a model that says nothing recovers nothing."""
KNOWN = 5.0
"""Points of KnowMem that a robust method may begin with above the retrained model's: what was not removed cannot come
back."""

REMOVALS = (
    Removal(BEST, "simnpo", {"beta": 2.5, "gamma": 1.0, "alpha": 3.0}, learning_rate=5e-4),
    Removal(PLAIN, "npo_gdr", {"beta": 0.05, "alpha": 3.0}),
    Removal("SAM-NPO+GDR", "npo_sam", {"beta": 0.05, "alpha": 3.0, "rho": 0.05}),
    Removal("UNDO of NPO+GDR", "undo", {"alpha": 0.3}, 1e-3, most=4, start=PLAIN, stops=False),
    Removal("RepSelect", "repselect", most=30),
    Removal("CIR", "cir", {"components": 48, "step": 0.02}, most=12),
    # At a rate of 1e-5 the question is what int4 undoes, not when to stop.
    Removal(SMALL[0], "npo_gdr", {"beta": 0.05, "alpha": 3.0}, 1e-5, most=10),
    Removal(SMALL[1], "npo_gdr", {"beta": 0.05, "alpha": 3.0}, 1e-5, most=10, lora=8),
)


def attacks(labs: Sequence[Lab], figures: Figures) -> None:
    """Every attack on the best removal, relearning of all of them, and quantisation of small updates."""
    for lab in labs:
        victims = Victims(lab, REMOVALS)
        seed = f"attacks, seed {lab.seed}"
        _constructed(victims, seed, figures)
        for part, names in (
            (_of_the_best, ("target", "retrained", BEST)),
            (_relearning, (PLAIN, *ROBUST)),
            (_small_updates, SMALL),
        ):
            for name in names:
                state = victims.state(name)
                line = f"V {state['verbmem']:.1f}, K {state['knowmem']:.1f}, U {state['utility']:.1f}"
                figures.figure(f"{seed}: {name}: before attacks", line)
                _say(f"{seed}: {name}: {line}")
            part(victims, seed, figures)


def _of_the_best(victims: Victims, seed: str, figures: Figures) -> None:
    """Excess recovery of the best removal under every attack, in half-widths of its interval."""
    names = (BEST, "retrained", "base")
    found: list[tuple[Attack, list[Outcome]]] = [
        (
            Attack(name, allowed=10.0 if name == "relearn/part" else 5.0),
            [run[RELEARN_STEPS[-1]] for run in runs],
        )
        for name in victims.relearning
        if (runs := [victims.relearned(each, name) for each in names])
    ]
    for attack in _others(victims):
        found.append((attack, [victims.outcome(each, attack) for each in names]))
        _say(f"{seed}: {attack.name}")
    for attack, (ours, retrained, never) in found:
        rows = table([attack], METRICS, {attack.name: ours}, [{attack.name: retrained}], {attack.name: never})
        for row in rows:
            figures.figure(f"{seed}: {BEST}: {attack.name}: {row.metric}", _told(row))
        figures.gate(
            f"{seed}: {BEST}: {attack.name}: excess over the retrained model, in half-intervals", "<= 1",
            max(map(_in_intervals, rows)),
        )  # fmt: skip


def _relearning(victims: Victims, seed: str, figures: Figures) -> None:
    """Recovery of KnowMem, over the retrained model's, at equal steps; who begins knowing more does not count."""
    recovered: dict[str, dict[str, float]] = {}
    for name in (PLAIN, *ROBUST):
        recovered[name] = {}
        for attack in ("relearn/retain", "relearn/part"):
            ours, theirs = (victims.relearned(each, attack) for each in (name, "retrained"))
            rows = {
                step: table([Attack(attack)], METRICS, {attack: ours[step]}, [{attack: theirs[step]}])
                for step in RELEARN_STEPS
            }
            for step, found in rows.items():
                told = "; ".join(f"{row.metric} {_told(row)}" for row in found)
                figures.figure(f"{seed}: {name}: {attack}, {step} steps", told)
            knows = [row for found in rows.values() for row in found if row.metric == KNOWLEDGE.name]
            recovered[name][attack] = sum(max(0.0, row.excess.value) for row in knows if row.excess)
        _say(f"{seed}: {name}: KnowMem recovered, all steps together: {recovered[name]}")
    shares = {
        name: {
            attack: recovered[name][attack] / max(1e-9, recovered[PLAIN][attack])
            for attack in recovered[name]
        }
        for name in ROBUST
    }
    floor = victims.state(PLAIN)["utility"] - WORSE
    ceiling = victims.state("retrained")["knowmem"] + KNOWN
    counted = []
    for name in ROBUST:
        state, told = (
            victims.state(name),
            ", ".join(f"{at} {share:.2f}" for at, share in shares[name].items()),
        )
        if state["utility"] < floor:
            told += f"; its utility is below {floor:.1f}, so that it does not count"
        elif state["knowmem"] > ceiling:
            told += f"; it knew more than {ceiling:.1f} before, so that it does not count"
        else:
            counted.append(name)
        figures.figure(f"{seed}: {name}: share of {PLAIN}'s recovery", told)
    best = min(counted, key=lambda name: max(shares[name].values()), default="")
    figures.figure(f"{seed}: the most robust removal", best or "none removes and keeps enough")
    for attack in ("relearn/retain", "relearn/part"):
        # Half of nothing would be no feat.
        figures.gate(f"{seed}: {attack}: {PLAIN}'s recovery, in points", ">= 5", recovered[PLAIN][attack])
        got = shares[best][attack] if best else float("inf")
        figures.gate(f"{seed}: {attack}: recovery of the most robust, of {PLAIN}'s", "<= 0.5", got)


def _small_updates(victims: Victims, seed: str, figures: Figures) -> None:
    """Full fine-tuning against an adapter, at a rate whose updates are smaller than a step of the grid."""
    attack = quantisation(round_to_nearest(4, 32))
    theirs = victims.outcome("retrained", attack)
    for name in SMALL:
        ours = victims.outcome(name, attack)
        for row in table([attack], METRICS, {attack.name: ours}, [{attack.name: theirs}]):
            figures.figure(f"{seed}: {name}: int4/32: {row.metric}", _told(row))


def _constructed(victims: Victims, seed: str, figures: Figures) -> None:
    """An unlearning that moves no weight by half a step: quantised, it is the quantised target."""
    scheme = round_to_nearest(4, 32)
    found = victims.constructed(scheme)
    unlearned, after, asked = found["unlearned"], found["attacked"], found["target"]
    for metric, value in unlearned.items():
        figures.figure(
            f"{seed}: constructed case: {metric}",
            f"{value:.1f} unlearned, {after[metric]:.1f} under {scheme.name}, {asked[metric]:.1f} the target under it",
        )
        figures.gate(f"{seed}: constructed case: {metric} hidden, in points", ">= 10", asked[metric] - value)
        share = (after[metric] - value) / max(1e-9, asked[metric] - value)
        figures.gate(f"{seed}: constructed case: share of {metric} recovered", ">= 1", share)
    figures.gate(f"{seed}: constructed case: quantised weights are the target's", "== 1", found["equal"])
    _say(f"{seed}: constructed case: {found}")


def _others(victims: Victims) -> list[Attack]:
    """Attacks that do not train."""
    tokenizer = victims.lab.tokenizer
    questions, prefixes, shots = victims.queries()
    schemes = [round_to_nearest(bits, group) for bits in (8, 4) for group in (32, 128)]
    schemes += [*map(gguf_format, GGUF_FORMATS), cast("bfloat16"), cast("float16")]
    recite = verbatim(tokenizer, max_new_tokens=TOKENS)
    ask = knowledge(tokenizer, template=TEMPLATE, max_new_tokens=16)
    return [
        *map(quantisation, schemes),
        *of_questions(ask, questions, [KNOWLEDGE], shots),
        *of_prefixes(recite, prefixes, [VERBATIM]),
        sampled_continuations(
            tokenizer, victims.module("base"), prefixes, max_new_tokens=TOKENS, samples=4, seed=victims.seed
        ),
    ]


def _in_intervals(row: Row) -> float:
    """Excess in half-widths of its interval; one that does not vary is 0 unless it is positive."""
    assert row.excess is not None
    half = (row.excess.high - row.excess.low) / 2
    return max(0.0, row.excess.value) / half if half else (0.0 if row.excess.value <= 0 else float("inf"))


def _told(row: Row) -> str:
    assert row.excess is not None
    return (
        f"{row.before:.1f} to {row.after:.1f}, retrained {row.retrained[0]:+.1f}, excess {row.excess.value:.1f} "
        f"({row.excess.low:.1f} to {row.excess.high:.1f})"
    )


def _say(line: str) -> None:
    print(line, flush=True)
