"""Removal on models of a million parameters: what the target knows, what a retrained model knows, and what is left.

``python -m tests.benchmarks.unlearning`` trains what is not there yet and runs what was not run yet: some hours on one
core for all seeds and methods. Models and results are kept, so that it can be stopped and started, and several
processes can share the work by their seeds.

Arguments are parts: ``models`` measures targets and retrained models, ``algorithms`` removes by each algorithm,
``growth`` removes more at once and one part after another, ``attacks`` attacks what was removed, with the first seed
unless seeds are given; by default these. ``stopping`` removes until a watch ends it, ``streams`` removes fifty sets one
after another and a set that grows, both with the first three seeds. Environment: PALIMPSEST_BENCH_SEEDS, of data and
training, "1,2,3,4,5"; PALIMPSEST_BENCH_REMOVAL_SEEDS, "1,2"; PALIMPSEST_BENCH_METHODS, names of methods (of settings,
for ``stopping``);
PALIMPSEST_BENCH_MODELS, the folder.
"""

import os
import sys
from collections.abc import Sequence
from itertools import pairwise
from statistics import mean

from tests.benchmarks.figures import Figures
from tests.benchmarks.unlearning.attacking import attacks
from tests.benchmarks.unlearning.lab import Lab, sources
from tests.benchmarks.unlearning.methods import METHODS, Course, Method
from tests.benchmarks.unlearning.removing import Remover
from tests.benchmarks.unlearning.scoring import Measured, Scorer
from tests.benchmarks.unlearning.spread import spread_of
from tests.benchmarks.unlearning.stopping import stopping
from tests.benchmarks.unlearning.streams import streams

Runs = dict[str, list[list[Course]]]
"""Courses of each method: [training seeds][removal seeds]."""


def models(labs: Sequence[Lab], figures: Figures) -> None:
    """Gates on the models that everything else is compared with: the worst of all seeds."""
    found: dict[str, list[Measured]] = {"base": [], "target": [], "retrained": []}
    leaks = []
    for lab in labs:
        scorer, seed = Scorer(lab), f"seed {lab.seed}"
        for name, measured in found.items():
            module = lab.load(getattr(lab, name)).module
            measured.append(scorer.measure(module))
            figures.figure(f"{seed}: {name}", measured[-1].line())
            if lab is labs[0]:
                for what, value in scorer.explained(module).items():
                    figures.figure(f"{seed}: {name}: {what}", value)
        for name, cpu in lab.spent.items():
            figures.figure(f"{seed}: {name}: CPU seconds of training", cpu)
        again = scorer.measure(lab.load(lab.retrained_with(lab.seed + 1000)).module)
        leaks.append(abs(again.privleak))
        _say(f"{seed}: models measured")
    target, retrained = found["target"], found["retrained"]
    figures.gate("VerbMem of the target", ">= 85", min(each.verbmem for each in target))
    figures.gate("KnowMem of the target", ">= 90", min(each.knowmem for each in target))
    figures.gate("-PrivLeak of the target", ">= 90", min(-each.privleak for each in target))
    figures.gate("utility of the target", ">= 90", min(each.utility for each in target))
    figures.gate("VerbMem of the retrained model", "<= 35", max(each.verbmem for each in retrained))
    figures.gate("KnowMem of the retrained model", "<= 15", max(each.knowmem for each in retrained))
    figures.gate("utility of the retrained model", ">= 85", min(each.utility for each in retrained))
    figures.gate("|PrivLeak| of a model retrained in another order", "<= 25", max(leaks))


def algorithms(
    labs: Sequence[Lab], removals: Sequence[int], methods: Sequence[Method], figures: Figures, *, growth: bool
) -> Runs:
    """Numbers of each algorithm, where it stops by its knowledge of the forget set."""
    runs: Runs = {}
    scorers = {lab.seed: Scorer(lab) for lab in labs}
    retrained = {lab.seed: _retrained(lab, scorers[lab.seed]) for lab in labs}
    removers = {(lab.seed, seed): Remover(lab, scorers[lab.seed], seed) for lab in labs for seed in removals}
    for method in methods:
        runs[method.name] = [
            [
                _course(removers[lab.seed, seed], method, retrained[lab.seed], f"seed {lab.seed}.{seed}")
                for seed in removals
            ]
            for lab in labs
        ]
        _tell(method, runs[method.name], [retrained[lab.seed] for lab in labs], figures)
        if growth:
            first = removers[labs[0].seed, removals[0]]
            _grow(method, runs[method.name][0][0], retrained[labs[0].seed], first, figures)
    return runs


def _course(remover: Remover, method: Method, retrained: Measured, run: str) -> Course:
    def teacher() -> object:
        [of] = [each for each in METHODS if each.name == method.teacher]
        course = remover.kept_course(of)
        return remover.removed(of, course.at[course.stopped(retrained)])

    found = remover.kept_course(method, teacher if method.teacher else None)
    _say(f"{run}: {method.name}: {found.measured[found.stopped(retrained)].line()}")
    return found


def _tell(method: Method, runs: list[list[Course]], retrained: Sequence[Measured], figures: Figures) -> None:
    """Write where a method stops, over all seeds, and its course with the first ones."""
    unit, first = (
        "strength" if method.strengths else "round" if method.algorithm == "cir" else "epoch",
        runs[0][0],
    )
    for at, measured in zip(first.at[1:], first.measured[1:], strict=True):
        figures.figure(f"{method.name}: first run: {unit} {at:g}", measured.line())
    stops = [[each.stopped(known) for each in row] for row, known in zip(runs, retrained, strict=True)]
    ends = [
        [each.measured[stop] for each, stop in zip(row, at, strict=True)]
        for row, at in zip(runs, stops, strict=True)
    ]
    chosen = [
        f"{each.at[stop]:g}"
        for row, at in zip(runs, stops, strict=True)
        for each, stop in zip(row, at, strict=True)
    ]
    figures.figure(f"{method.name}: stopped at {unit}", ", ".join(chosen))
    for number, name in enumerate(("verbmem", "knowmem", "privleak", "utility")):
        values = [[getattr(each, name) for each in row] for row in ends]
        errors = [[each.spread[number] for each in row] for row in ends]
        figures.figure(f"{method.name}: stopped: {name}", str(spread_of(values, errors)))
    matched = [[each.matched() for each in row] for row in runs]
    figures.figure(
        f"{method.name}: utility at KnowMem 48", ", ".join(f"{v:.0f}" for row in matched for v in row)
    )
    figures.figure(f"{method.name}: CPU seconds", mean(each.seconds for row in runs for each in row))


def _grow(method: Method, course: Course, retrained: Measured, remover: Remover, figures: Figures) -> None:
    """Write MUSE's last two numbers. WHP changes no weights, and what distils has another course before it."""
    if method.algorithm == "whp" or method.teacher:
        return
    stop = course.stopped(retrained)
    amount, whole = course.at[stop], course.measured[stop].utility
    for what, values in (
        ("utility by size of the request", [*remover.growing(method, amount), whole]),
        ("utility by number of requests", remover.sequence(method, amount)),
    ):
        figures.figure(f"{method.name}: {what}", ", ".join(f"{value:.1f}" for value in values))
    _say(f"{method.name}: requests that grow and follow")


def orderings(runs: Runs, figures: Figures) -> None:
    """Gates on what is larger than the noise of a seed."""
    every = {name: [each for row in rows for each in row] for name, rows in runs.items()}
    for name in {"GA", "NPO"} & every.keys():
        worst = max(each.measured[-1].utility for each in every[name])
        figures.gate(f"{name} alone: utility at its end", "<= 15", worst)
    for name in {"GA+GDR", "SimNPO+GDR"} & every.keys() if "GA" in every else ():
        gains = [ours.matched() - ga.matched() for ours, ga in zip(every[name], every["GA"], strict=True)]
        figures.gate(f"{name}: utility at KnowMem 48, more than GA's by", ">= 15", mean(gains))
        figures.figure(
            f"{name}: utility at KnowMem 48, more than GA's by", ", ".join(f"{g:.0f}" for g in gains)
        )
    if "task vector" in every:
        courses = [
            [getattr(point, what) for point in each.measured]
            for each in every["task vector"]
            for what in ("knowmem", "utility")
        ]
        rises = [max(after - before for before, after in pairwise(values)) for values in courses]
        figures.gate("task vector: KnowMem and utility that rise", "<= 0", sum(rise > 0 for rise in rises))
        figures.figure("task vector: largest rise of KnowMem or utility, points", max(0.0, *rises))


def _retrained(lab: Lab, scorer: Scorer) -> Measured:
    def measure() -> dict[str, object]:
        return vars(scorer.measure(lab.load(lab.retrained).module))

    return Measured.of(lab.kept_result("measured", [lab.retrained.name, sources("metrics")], measure))


def _say(line: str) -> None:
    print(line, flush=True)


def _numbers(name: str, default: str) -> list[int]:
    return [int(each) for each in os.environ.get(name, default).split(",")]


def main() -> None:
    """Measure and write."""
    figures = Figures("unlearning")
    parts = set(sys.argv[1:]) or {"models", "algorithms", "growth", "attacks"}
    labs = [Lab(seed) for seed in _numbers("PALIMPSEST_BENCH_SEEDS", "1,2,3,4,5")]
    named = os.environ.get("PALIMPSEST_BENCH_METHODS", "")
    methods = [each for each in METHODS if not named or each.name in named.split(",")]
    if "models" in parts:
        models(labs, figures)
    if parts & {"algorithms", "growth"}:
        removals = _numbers("PALIMPSEST_BENCH_REMOVAL_SEEDS", "1,2")
        orderings(algorithms(labs, removals, methods, figures, growth="growth" in parts), figures)
    if "attacks" in parts:
        attacks(labs if "PALIMPSEST_BENCH_SEEDS" in os.environ else labs[:1], figures)
    if "stopping" in parts:
        stopping(labs[:3], figures, list(filter(None, named.split(","))))
    if "streams" in parts:
        streams(labs[:3], figures)
    figures.write()


if __name__ == "__main__":
    main()
