"""Removal by each algorithm: its course epoch by epoch, and requests that grow or come one after another."""

import copy
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from palimpsest.progress import NullProgress
from palimpsest.training import Example, Recipe, train
from services.unlearning.algorithms.inputs import Inputs
from services.unlearning.algorithms.reference import frozen_copy
from services.unlearning.algorithms.registry import algorithm, build
from services.unlearning.algorithms.task_vector import TaskVectorParameters, subtract
from services.unlearning.corpora import Document
from tests.benchmarks.unlearning.lab import Lab
from tests.benchmarks.unlearning.scoring import Measured, Scorer

BATCH = 8
MATCHED = 48.0
"""KnowMem at which the utility of algorithms is compared: about half of what the target knows."""


@dataclass(frozen=True)
class Method:
    """An algorithm with its settings.

    Attributes
    ----------
    values
        Hyper-parameters; the regulariser's weight is that of a retain set four times the forget set.
    strengths
        Instead of epochs, for a task vector: how far it walks.
    """

    name: str
    algorithm: str
    values: Mapping[str, object] = field(default_factory=dict)
    learning_rate: float = 1e-4
    epochs: int = 10
    strengths: tuple[float, ...] = ()


METHODS = (
    Method("GA", "ga", epochs=4),
    Method("GA+GDR", "ga_gdr", {"alpha": 3.0}),
    Method("NPO", "npo", {"beta": 0.05}, epochs=6),
    Method("NPO+GDR", "npo_gdr", {"beta": 0.05, "alpha": 3.0}),
    Method("SimNPO+GDR", "simnpo", {"beta": 2.5, "gamma": 1.0, "alpha": 3.0}, learning_rate=2e-4),
    Method("task vector", "tv", strengths=(0.5, 1.0, 2.0, 4.0, 8.0)),
)


@dataclass(frozen=True)
class Course:
    """What a method did: the target first, then the model after each epoch or at each strength.

    Attributes
    ----------
    at
        Epochs, or strengths.
    seconds
        CPU seconds of training.
    """

    at: tuple[float, ...]
    measured: tuple[Measured, ...]
    seconds: float

    def matched(self, knowmem: float = MATCHED) -> float:
        """Utility where KnowMem first falls to a value, interpolated; nan if it never does."""
        for before, after in pairwise(self.measured):
            if after.knowmem <= knowmem < before.knowmem:
                share = (before.knowmem - knowmem) / (before.knowmem - after.knowmem)
                return before.utility + share * (after.utility - before.utility)
        return float("nan")

    def stopped(self, retrained: Measured) -> int:
        """Index of the first model that knows no more of the forget set than the retrained one, or of the last.

        The rule of MUSE's code ("forget_match").
        """
        known = [each.knowmem <= retrained.knowmem for each in self.measured]
        return known.index(True) if True in known else len(known) - 1


class Remover:
    """Carries requests out on a lab's target."""

    def __init__(self, lab: Lab, scorer: Scorer) -> None:
        self.lab, self.scorer = lab, scorer
        self.retain = lab.examples("retain1")
        self.target = lab.load(lab.target).module

    def course(self, method: Method) -> Course:
        """Remove the whole forget set, measured all along."""
        at, measured = [0.0], [self.scorer.measure(self.target)]
        forget = self.lab.examples("forget")
        begin = time.process_time()
        if method.strengths:
            reinforced = self._trained(self.target, forget, method, method.epochs)
            spent = time.process_time() - begin
            for strength in method.strengths:
                module = copy.deepcopy(self.target)
                subtract(module, reinforced, TaskVectorParameters(alpha=strength))
                at.append(strength)
                measured.append(self.scorer.measure(module))
            return Course(tuple(at), tuple(measured), spent)
        module = copy.deepcopy(self.target)
        inputs = self._inputs(module, forget, method)
        measuring = 0.0

        def probe(step: int) -> bool:
            nonlocal measuring
            if (step + 1) % inputs.steps_per_epoch == 0:
                start = time.process_time()
                at.append((step + 1) / inputs.steps_per_epoch)
                measured.append(self.scorer.measure(module))
                measuring += time.process_time() - start
            return False

        self._run(module, inputs, method, method.epochs, probe)
        return Course(tuple(at), tuple(measured), time.process_time() - begin - measuring)

    def growing(self, method: Method, epochs: int) -> list[float]:
        """Utility after removing 1, 2, ... folds in one request (MUSE's scalability)."""
        found = []
        for folds in range(1, len(self.lab.corpus.folds) + 1):
            module = copy.deepcopy(self.target)
            forget = self._examples(self.lab.corpus.nested(folds))
            found.append(self.scorer.utility(self._trained(module, forget, method, epochs)))
        return found

    def sequence(self, method: Method, epochs: int) -> list[float]:
        """Utility after each of several requests, one fold each, on what the one before left (sustainability)."""
        found, module = [], copy.deepcopy(self.target)
        for fold in range(1, len(self.lab.corpus.folds) + 1):
            module = self._trained(module, self._examples(self.lab.corpus.disjoint(fold)), method, epochs)
            found.append(self.scorer.utility(module))
        return found

    def _examples(self, documents: Sequence[Document]) -> list[Example]:
        return self.lab.examples_of(documents, self.lab.corpus.questions_of(documents))

    def _trained(self, start: Any, forget: Sequence[Example], method: Method, epochs: int) -> Any:
        module = copy.deepcopy(start)
        self._run(module, self._inputs(module, forget, method), method, epochs, None)
        return module

    def _inputs(self, module: Any, forget: Sequence[Example], method: Method) -> Inputs:
        chosen = algorithm(method.algorithm)
        needs = chosen.needs(chosen.parse(method.values))
        return Inputs(
            module,
            forget,
            self.retain,
            reference=frozen_copy(module) if "reference" in needs else None,
            batch=BATCH,
            seed=self.lab.seed,
            pad=self.lab.tokenizer.pad_token_id,
        )

    def _run(self, module: Any, inputs: Inputs, method: Method, epochs: int, probe: Any) -> None:
        recipe = Recipe(
            steps=epochs * inputs.steps_per_epoch,
            learning_rate=method.learning_rate,
            batch=BATCH,
            seed=self.lab.seed,
            threads=1,
        )
        objective = build(method.algorithm, method.values, inputs)
        train(module, objective, recipe, progress=NullProgress(), probe=probe)
