"""Removal by each algorithm: its course epoch by epoch, and requests that grow or come one after another."""

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from palimpsest.progress import NullProgress
from palimpsest.training import Example, Recipe
from services.unlearning.algorithms.task_vector import TaskVectorParameters, subtract
from services.unlearning.corpora import Document
from services.unlearning.runs import Data, unlearn
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
    # At -1 the model becomes the reinforced one, which is then walked away from.
    Method("task vector", "tv", {"alpha": -1.0}, strengths=(0.5, 1.0, 2.0, 4.0, 8.0)),
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
        """Remove the whole forget set, measured all along; the time is that of training alone."""
        at, measured = [0.0], [self.scorer.measure(self.target)]
        forget = self.lab.examples("forget")
        epoch = self._steps(forget, 1)
        begin, measuring = time.process_time(), 0.0

        def take(module: Any, moment: float) -> None:
            nonlocal measuring
            start = time.process_time()
            at.append(moment)
            measured.append(self.scorer.measure(module))
            measuring += time.process_time() - start

        if method.strengths:
            reinforced = self._trained(self.target, forget, method, method.epochs)
            for strength in method.strengths:
                module = copy.deepcopy(self.target)
                subtract(module, reinforced, TaskVectorParameters(alpha=strength))
                take(module, strength)
        else:
            module = copy.deepcopy(self.target)

            def probe(step: int) -> bool:
                if (step + 1) % epoch == 0:
                    take(module, (step + 1) / epoch)
                return False

            self._remove(module, forget, method, method.epochs, probe)
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
        self._remove(module, forget, method, epochs)
        return module

    def _remove(
        self,
        module: Any,
        forget: Sequence[Example],
        method: Method,
        epochs: int,
        probe: Callable[[int], bool] | None = None,
    ) -> None:
        recipe = Recipe(
            steps=self._steps(forget, epochs),
            learning_rate=method.learning_rate,
            batch=BATCH,
            seed=self.lab.seed,
            threads=1,
        )
        data = Data(forget, self.retain, pad=self.lab.tokenizer.pad_token_id)
        unlearn(
            module,
            method.algorithm,
            data,
            recipe,
            progress=NullProgress(),
            parameters=method.values,
            probe=probe,
        )

    def _steps(self, forget: Sequence[Example], epochs: int) -> int:
        return epochs * -(-len(forget) // BATCH)
