"""Removal on models of a million parameters: what the target knows, what a retrained model knows, and what is left.

``python -m tests.benchmarks.unlearning`` trains what is not there yet: some minutes on one core for each seed.
Arguments are parts: ``models`` measures the target and the retrained model, ``algorithms`` removes by each algorithm.
By default both. PALIMPSEST_BENCH_SEEDS lists the seeds, "1" by default.
"""

import os
import sys
from statistics import mean

from tests.benchmarks.figures import Figures
from tests.benchmarks.unlearning.lab import Lab
from tests.benchmarks.unlearning.removing import METHODS, Course, Method, Remover
from tests.benchmarks.unlearning.scoring import Measured, Scorer


def models(lab: Lab, scorer: Scorer, figures: Figures) -> None:
    """Gates on the models that everything else is compared with."""
    seed = f"seed {lab.seed}"
    modules = {
        name: lab.load(path).module
        for name, path in (("base", lab.base), ("target", lab.target), ("retrained", lab.retrained))
    }
    found = {name: scorer.measure(module) for name, module in modules.items()}
    for name, measured in found.items():
        figures.figure(f"{seed}: {name}", measured.line())
        for what, value in scorer.explained(modules[name]).items():
            figures.figure(f"{seed}: {name}: {what}", value)
    for name, cpu in lab.spent.items():
        figures.figure(f"{seed}: {name}: CPU seconds of training", cpu)
    target, retrained = found["target"], found["retrained"]
    figures.gate(f"{seed}: VerbMem of the target", ">= 85", target.verbmem)
    figures.gate(f"{seed}: KnowMem of the target", ">= 90", target.knowmem)
    figures.gate(f"{seed}: -PrivLeak of the target", ">= 90", -target.privleak)
    figures.gate(f"{seed}: utility of the target", ">= 90", target.utility)
    figures.gate(f"{seed}: VerbMem of the retrained model", "<= 35", retrained.verbmem)
    figures.gate(f"{seed}: KnowMem of the retrained model", "<= 15", retrained.knowmem)
    figures.gate(f"{seed}: utility of the retrained model", ">= 85", retrained.utility)
    again = scorer.measure(lab.load(lab.retrained_with(lab.seed + 1000)).module)
    figures.gate(f"{seed}: |PrivLeak| of a model retrained in another order", "<= 25", abs(again.privleak))


def algorithms(lab: Lab, scorer: Scorer, figures: Figures) -> dict[str, Course]:
    """Six numbers of each algorithm, where it stops by its knowledge of the forget set."""
    remover = Remover(lab, scorer)
    retrained = scorer.measure(lab.load(lab.retrained).module)
    found = {}
    for method in METHODS:
        course = found[method.name] = remover.course(method)
        _tell(lab, method, course, retrained, remover, figures)
    return found


def _tell(
    lab: Lab, method: Method, course: Course, retrained: Measured, remover: Remover, figures: Figures
) -> None:
    name = f"seed {lab.seed}: {method.name}"
    stopped = course.stopped(retrained)
    unit = "strength" if method.strengths else "epoch"
    for at, measured in zip(course.at[1:], course.measured[1:], strict=True):
        figures.figure(f"{name}: {unit} {at:g}", measured.line())
    figures.figure(f"{name}: stopped at {unit} {course.at[stopped]:g}", course.measured[stopped].line())
    figures.figure(f"{name}: utility at KnowMem 48", course.matched())
    figures.figure(f"{name}: CPU seconds", course.seconds)
    if not method.strengths:
        epochs = int(course.at[stopped])
        for what, values in (
            ("utility by size of the request", remover.growing(method, epochs)),
            ("utility by number of requests", remover.sequence(method, epochs)),
        ):
            figures.figure(f"{name}: {what}", ", ".join(f"{value:.1f}" for value in values))


def orderings(courses: list[dict[str, Course]], figures: Figures) -> None:
    """Gates on what is larger than the noise of a seed."""
    for name in ("GA", "NPO"):
        worst = max(each[name].measured[-1].utility for each in courses)
        figures.gate(f"{name} alone: utility at its end", "<= 15", worst)
    for name in ("GA+GDR", "SimNPO+GDR"):
        gain = mean(each[name].matched() - each["GA"].matched() for each in courses)
        figures.gate(f"{name}: utility at KnowMem 48, more than GA's by", ">= 15", gain)


def main() -> None:
    """Measure and write."""
    figures = Figures("unlearning")
    parts = set(sys.argv[1:]) or {"models", "algorithms"}
    courses = []
    for seed in map(int, os.environ.get("PALIMPSEST_BENCH_SEEDS", "1").split(",")):
        lab = Lab(seed)
        scorer = Scorer(lab)
        if "models" in parts:
            models(lab, scorer, figures)
        if "algorithms" in parts:
            courses.append(algorithms(lab, scorer, figures))
    if courses:
        orderings(courses, figures)
    figures.write()


if __name__ == "__main__":
    main()
