"""Automatic stopping: how near to retrained models a removal comes that looks at itself every few steps.

Removal and repair take turns (:class:`services.unlearning.stopping.Rounds`) until a cheap probe is within bands about
what it finds on several retrained models. The probe sees the forget set and the holdout set, as a request's does, and
of what is to be kept a part of retain1 that removal does not train on; retain2 is for the figures alone. Settings are
chosen on the first seed and reported on the others.
"""

import copy
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from statistics import fmean, stdev
from typing import Any

import numpy as np

from palimpsest.progress import NullProgress
from palimpsest.training import Recipe
from services.unlearning.metrics import Bootstrap
from services.unlearning.runs import Data, unlearn
from services.unlearning.stopping import Bands, Choice, DivergenceGuard, Probe, Rounds
from services.unlearning.stopping.references import retrained
from tests.benchmarks.figures import Figures
from tests.benchmarks.unlearning.distance import LEAST_UTILITY, Distance, Known, bands_of
from tests.benchmarks.unlearning.lab import Lab, sources
from tests.benchmarks.unlearning.methods import Method
from tests.benchmarks.unlearning.removing import BATCH, Remover
from tests.benchmarks.unlearning.scoring import Measured, Scorer
from tests.benchmarks.unlearning.watching import answers

RETRAINED = 5
"""Models retrained without the forget set, each with an order of its own."""
LOOK = 10
"""Steps between two looks."""
WATCHED = 16
"""Documents of retain1 that tell the probe what is kept, and that removal does not train on."""


@dataclass(frozen=True)
class Setting:
    """How a request is carried out.

    Attributes
    ----------
    method
        Of the turns of removal; its epochs are the most of a turn.
    repair
        Learning rate of the turns of repair.
    past
        How far removal takes the AUC past the references'.
    rounds
        Most of removal and repair.
    repaired
        Most steps of a repair.
    """

    method: Method
    repair: float = 1e-4
    past: float = 0.1
    rounds: int = 2
    repaired: int = 100


_MARGIN = 3.4
"""Nats a token that a retrained model of these data sets needs for a document of the forget set, as for any unseen."""

SETTINGS: tuple[Setting, ...] = (
    Setting(Method("GA, repaired", "ga", epochs=15)),
    Setting(Method("GA+GDR", "ga_gdr", {"alpha": 3.0}, epochs=15)),
    Setting(Method("GA+KLR", "ga_klr", {"alpha": 3.0}, epochs=15)),
    Setting(
        Method("NPO+GDR by token", "npo_gdr", {"beta": 1.0, "length_norm": "token", "alpha": 3.0}, 2e-4, 15)
    ),
    Setting(
        Method(
            "SimNPO+GDR up to a margin",
            "simnpo",
            {"beta": 10.0, "delta": _MARGIN, "gamma": 1.0, "alpha": 3.0},
            2e-4,
            15,
        )
    ),
    Setting(Method("WGA+GDR", "wga", {"beta": 0.5, "alpha": 3.0}, 2e-4, 15)),
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
    def probe(self) -> Probe:
        """What a look sees."""
        corpus, watched = self.lab.corpus, {each.id for each in self.lab.corpus.split("retain1")[:WATCHED]}
        kept = [each for each in corpus.trained("retain1") if each.doc_id in watched]
        return Probe(
            self.lab.document_examples(corpus.split("forget")),
            self.lab.document_examples(corpus.split("holdout")),
            pad=self.lab.tokenizer.pad_token_id,
            others={"answers": answers(self.lab, corpus.trained("forget")), "kept": answers(self.lab, kept)},
            batch=40,
        )

    @cached_property
    def bands(self) -> Bands:
        """Where the probe should find everything."""
        found = {each.name: self.probe.measure(self.lab.load(each).module, 0).values for each in self.folders}
        target = self.probe.measure(self.lab.load(self.lab.target).module, 0)
        return bands_of(retrained(found), [each["auc"] for each in found.values()], target["kept_em"])

    def kept(self, setting: Setting) -> tuple[Measured, dict[str, Any]]:
        """The result of a setting, read from the lab's folder if it was run, and how it came to it."""
        code = sources("algorithms", "metrics", "stopping", "runs.py")
        parts = [self.lab.target.name, [each.name for each in self.folders], asdict(setting), self.seed, code]
        found = self.lab.kept_result("stopping", [*parts, LOOK, WATCHED, BATCH], lambda: self._run(setting))
        return Measured.of(found["measured"]), found

    def _run(self, setting: Setting) -> dict[str, Any]:
        begin, remover = time.process_time(), Remover(self.lab, self.scorer, self.seed)
        watched = {each.id for each in self.lab.corpus.split("retain1")[:WATCHED]}
        questions = [each for each in self.lab.corpus.trained("retain1") if each.doc_id not in watched]
        documents = [each for each in self.lab.corpus.split("retain1") if each.id not in watched]
        remover.retain = self.lab.examples_of(documents, questions)
        forget, module = self.lab.examples("forget"), copy.deepcopy(remover.target)
        recipe = Recipe(
            steps=setting.repaired, learning_rate=setting.repair, batch=BATCH, seed=self.seed, threads=1
        )

        def repair(watch: Any) -> None:
            data = Data((), remover.retain, pad=self.lab.tokenizer.pad_token_id)
            unlearn(module, "retrain", data, recipe, progress=NullProgress(), probe=watch)

        def remove(watch: Any) -> None:
            remover.train(module, forget, setting.method, setting.method.epochs, watch)

        bands = replace(self.bands, past=setting.past)
        guard = DivergenceGuard(len(self.lab.tokenizer), margin=6.0)
        rounds = Rounds(module, self.probe.measure, bands, guard, LOOK, setting.rounds)
        turns = rounds.run(remove, repair)
        spent = time.process_time() - begin
        facts = [_turn(turn) for turn in turns]
        return {"measured": vars(self.scorer.measure(module)), "turns": facts, "seconds": spent}

    def _measured(self, folder: Any) -> dict[str, Any]:
        def measure() -> dict[str, Any]:
            measured, items = self.scorer.measured(self.lab.load(folder).module)
            return {"measured": vars(measured), "items": items}

        parts = [folder.name, self.lab.retrained.name, sources("metrics")]
        return self.lab.kept_result("measured-items", parts, measure)


def _turn(turn: Choice) -> dict[str, Any]:
    why = turn.decision.rule if turn.decision else "steps used up"
    values = {name: round(value, 4) for name, value in turn.measurement.values.items()}
    return {"ended": why, "at": turn.last.step, "kept": turn.measurement.step, "values": values}


def stopping(labs: Sequence[Lab], figures: Figures) -> None:
    """Gates on the setting that is best on the first seed, over the other seeds."""
    trials = [Trial(lab) for lab in labs]
    first = trials[0]
    tried = [_told(first, setting, figures) for setting in SETTINGS]
    nearest = min(range(len(tried)), key=lambda at: tried[at].worst)
    best = SETTINGS[nearest]
    figures.figure("stopping: chosen on the first seed", best.method.name)
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


def _told(trial: Trial, setting: Setting, figures: Figures) -> Distance:
    measured, facts = trial.kept(setting)
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
    turns = "; ".join(f"{turn['ended']} at {turn['at']:g}, kept {turn['kept']:g}" for turn in facts["turns"])
    figures.figure(f"{name}: {setting.method.name}", line)
    figures.figure(f"{name}: {setting.method.name}: turns", turns)
    figures.figure(f"{name}: {setting.method.name}: CPU seconds", facts["seconds"])
    figures.figure(f"{name}: {setting.method.name}: worst of what is asked (1 holds)", distance.worst)
    print(f"{name}: {setting.method.name}: {line}: {turns}", flush=True)
    return distance
