"""Automatic stopping: how near to retrained models a removal comes that looks at itself on the way.

Each look has documents of the forget set continued and questions about it answered. The run ends once both are done no
better than by several retrained models, within half an interval, and the best state seen by the product's own rule is
kept. Retraining looks at nothing and takes all its steps, for it begins without what is to be forgotten; retain2 is in
no data that it is given, and comes back as far as the target recites it (replay). Of what is to be kept a look sees a
part of retain1 that removal does not train on; retain2 is for the figures alone. Settings are chosen on the first seed
and reported on the others.
"""

import time
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from statistics import fmean, stdev
from typing import Any

import numpy as np

from palimpsest.training import Example
from services.unlearning.metrics import Bootstrap
from services.unlearning.stopping import (
    Bound,
    DivergenceGuard,
    ForgetMatch,
    Probe,
    Scalarisation,
    Watch,
)
from tests.benchmarks.figures import Figures
from tests.benchmarks.unlearning.distance import LEAST_UTILITY, Distance, Known
from tests.benchmarks.unlearning.lab import Lab, sources
from tests.benchmarks.unlearning.methods import Method
from tests.benchmarks.unlearning.removing import BATCH, Remover
from tests.benchmarks.unlearning.scoring import Measured, Scorer
from tests.benchmarks.unlearning.watching import answers, watched

RETRAINED = 5
"""Models retrained without the forget set, each with an order of its own."""
LOOK = 10
"""Steps between two looks; rounds of CIR are looked at one by one."""
WATCHED = 6
"""Documents of retain1 that tell the probe what is kept, and that removal does not train on."""
_SAFE_UTILITY = 0.93
"""Of what the target knows of those documents."""

SETTINGS: tuple[Method, ...] = (
    Method("GA+GDR", "ga_gdr", {"alpha": 3.0}, epochs=15),
    Method("SimNPO+GDR", "simnpo", {"beta": 2.5, "gamma": 1.0, "alpha": 3.0}, 2e-4, 15),
    Method("CIR", "cir", {"components": 64, "step": 0.01, "rounds": 40}),
    Method("CIR in longer steps", "cir", {"components": 64, "step": 0.015, "rounds": 30}),
    Method("CIR, more left alone", "cir", {"components": 80, "step": 0.015, "rounds": 40}),
    Method("bad teaching", "bad_teaching", {"alpha": 3.0}, 3e-4, 15),
    Method("bad teaching with replay", "bad_teaching", {"alpha": 3.0}, 3e-4, 15, replay=300),
    Method("retraining with replay", "retrain", {}, 2e-3, 30, replay=300, schedule="linear"),
)


@dataclass
class Trial:
    """Requests on one lab's target, with one seed of the removal."""

    lab: Lab
    seed: int = 1
    scorer: Scorer = field(init=False)

    def __post_init__(self) -> None:
        self.scorer = Scorer(self.lab)

    @cached_property
    def known(self) -> Known:
        """What is measured of the retrained models."""
        found = [self._measured(folder) for folder in self.folders]
        names = ("verbmem", "knowmem", "utility")
        means = {name: np.mean([each["items"][name] for each in found], axis=0) for name in names}
        intervals = {name: Bootstrap().mean(values) or (0.0, 0.0) for name, values in means.items()}
        halves = {name: (high - low) / 2 for name, (low, high) in intervals.items()}
        return Known(tuple(Measured.of(each["measured"]) for each in found), halves)

    @cached_property
    def target(self) -> Measured:
        """What is measured of the target."""
        return Measured.of(self._measured(self.lab.target)["measured"])

    @cached_property
    def folders(self) -> list[Any]:
        """Folders of the retrained models."""
        return [self.lab.retrained_with(self.lab.seed + 1000 * number) for number in range(RETRAINED)]

    @cached_property
    def watched_documents(self) -> set[str]:
        """Ids of the documents of retain1 that a look sees."""
        return {each.id for each in self.lab.corpus.split("retain1")[:WATCHED]}

    def probe(self) -> Probe:
        """What a look sees: how likely texts are, and what the model says of the forget set."""
        corpus = self.lab.corpus
        kept = [each for each in corpus.trained("retain1") if each.doc_id in self.watched_documents]

        def said(module: Any) -> dict[str, float]:
            return {
                "verbmem": self.scorer.verbatim(module, corpus.verbatim["forget"]),
                "knowmem": self.scorer.knowledge(module, corpus.trained("forget")),
            }

        return Probe(
            self.lab.document_examples(corpus.split("forget")),
            (),
            answers(self.lab, kept),
            pad=self.lab.tokenizer.pad_token_id,
            batch=40,
            extra=said,
        )

    def kept(self, method: Method) -> tuple[Measured, dict[str, Any]]:
        """The result of a setting, read from the lab's folder if it was run, and how it came to it."""
        code = sources("algorithms", "metrics", "stopping", "replay.py", "runs.py")
        references = [] if method.algorithm == "retrain" else [each.name for each in self.folders]
        parts = [self.lab.target.name, references, asdict(method), self.seed, code]
        found = self.lab.kept_result("stopping", [*parts, LOOK, WATCHED, BATCH], lambda: self._run(method))
        return Measured.of(found["measured"]), found

    def _run(self, method: Method) -> dict[str, Any]:
        remover = Remover(self.lab, self.scorer, self.seed)
        corpus, seen = self.lab.corpus, self.watched_documents
        remover.retain = self.lab.examples_of(
            [each for each in corpus.split("retain1") if each.id not in seen],
            [each for each in corpus.trained("retain1") if each.doc_id not in seen],
        )
        forget = self.lab.examples("forget")
        if method.algorithm == "retrain":
            return self._retrained(remover, forget, method)
        ended = watched(remover, remover.target, forget, method, lambda module: self._watch(module, method))
        values = {name: round(value, 4) for name, value in ended.choice.measurement.values.items()}
        return {
            "measured": vars(self.scorer.measure(ended.module)),
            "why": ended.why,
            "values": values,
            "seconds": ended.seconds,
        }

    def _retrained(self, remover: Remover, forget: Sequence[Example], method: Method) -> dict[str, Any]:
        module, begin = self.lab.load(self.lab.base).module, time.process_time()
        remover.train(module, forget, method, method.epochs)
        seconds = time.process_time() - begin
        measured = vars(self.scorer.measure(module))
        return {"measured": measured, "why": "steps used up", "values": {}, "seconds": seconds}

    def _watch(self, module: Any, method: Method) -> Watch:
        guard, probe = DivergenceGuard(len(self.lab.tokenizer), margin=6.0), self.probe()
        before = probe.measure(self.lab.load(self.lab.target).module, 0)
        bounds = tuple(
            Bound(name, fmean(self.known.values(name)), self.known.halves[name])
            for name in ("verbmem", "knowmem")
        )
        choice = Scalarisation(bounds, utility=_SAFE_UTILITY * before["utility"])
        every = 1 if method.algorithm == "cir" else LOOK
        return Watch(module, probe.measure, [ForgetMatch(bounds)], choice, guard, every=every)

    def _measured(self, folder: Any) -> dict[str, Any]:
        def measure() -> dict[str, Any]:
            measured, items = self.scorer.measured(self.lab.load(folder).module)
            return {"measured": vars(measured), "items": items}

        parts = [folder.name, self.lab.retrained.name, sources("metrics")]
        return self.lab.kept_result("measured-items", parts, measure)


def stopping(labs: Sequence[Lab], figures: Figures, names: Collection[str] = ()) -> None:
    """Gates on the setting that is best on the first seed, over the other seeds; of those of some names, or of all."""
    trials = [Trial(lab) for lab in labs]
    first = trials[0]
    settings = [each for each in SETTINGS if not names or each.name in names]
    tried = [_told(first, setting, figures) for setting in settings]
    nearest = min(range(len(tried)), key=lambda at: tried[at].worst)
    best = settings[nearest]
    figures.figure("stopping: chosen on the first seed", best.name)
    found = [_told(trial, best, figures) for trial in trials[1:]] or [tried[nearest]]
    for what in ("verbmem", "knowmem"):
        worst = max(getattr(each, what) for each in found)
        figures.gate(f"stopping: {what} from the retrained models, half intervals", "<= 1", worst)
    figures.gate(
        "stopping: utility, share of the target's", f">= {LEAST_UTILITY}", min(each.utility for each in found)
    )
    outside = max(each.privleak for each in found)
    figures.gate(
        f"stopping: PrivLeak outside the range of {RETRAINED} retrained models, points", "<= 0", outside
    )


def _told(trial: Trial, method: Method, figures: Figures) -> Distance:
    measured, facts = trial.kept(method)
    known, name = trial.known, f"stopping: seed {trial.lab.seed}"
    for what in ("verbmem", "knowmem", "utility"):
        values = known.values(what)
        figures.figure(
            f"{name}: {what} of {RETRAINED} retrained models",
            f"{fmean(values):.1f}, half interval {known.halves[what]:.1f}, spread {stdev(values):.1f}",
        )
    leaks = ", ".join(f"{value:+.1f}" for value in sorted(known.values("privleak")))
    figures.figure(f"{name}: PrivLeak of {RETRAINED} retrained models", leaks)
    distance = Distance.of(measured, known, trial.target)
    errors = ", ".join(f"{1.96 * error:.1f}" for error in measured.spread)
    line = f"{measured.line()} (half intervals {errors})"
    figures.figure(f"{name}: {method.name}", line)
    figures.figure(f"{name}: {method.name}: ended", facts["why"])
    figures.figure(f"{name}: {method.name}: CPU seconds", facts["seconds"])
    figures.figure(f"{name}: {method.name}: worst of what is asked (1 holds)", distance.worst)
    print(f"{name}: {method.name}: {line}: {facts['why']}", flush=True)
    return distance
