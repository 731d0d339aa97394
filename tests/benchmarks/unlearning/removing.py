"""Removal by each algorithm: its course epoch by epoch, and requests that grow or come one after another."""

import copy
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from functools import cached_property
from typing import Any

from palimpsest.progress import NullProgress
from palimpsest.training import Example, LoraSettings, Recipe, train
from services.unlearning.algorithms import Inputs
from services.unlearning.algorithms.contrast import ContrastedModel, WhpParameters
from services.unlearning.algorithms.reference import frozen_copy
from services.unlearning.algorithms.refusals import refusals_for
from services.unlearning.algorithms.repselect import RepSelectParameters, selective_directions, walk
from services.unlearning.algorithms.task_vector import TaskVectorParameters, subtract
from services.unlearning.corpora import Document
from services.unlearning.metrics import Pair
from services.unlearning.replay import Replay, replayed
from services.unlearning.runs import Data, unlearn
from tests.benchmarks.unlearning.lab import TEMPLATE, Lab, Schedule, TwoLengths, sources
from tests.benchmarks.unlearning.methods import Course, Method
from tests.benchmarks.unlearning.scoring import Scorer

BATCH = 8
DRAWS = 10000
"""Sequences that a replay samples."""


class Remover:
    """Carries requests out on a lab's target, with one seed of the removal itself."""

    def __init__(self, lab: Lab, scorer: Scorer, seed: int = 1) -> None:
        self.lab, self.scorer, self.seed = lab, scorer, seed
        self.retain = lab.examples("retain1")
        self.target = lab.load(lab.target).module

    def course(self, method: Method, teacher: Any = None) -> Course:
        """Remove the whole forget set, measured all along; the time is that of training alone.

        Parameters
        ----------
        method
            How.
        teacher
            The unlearned model that a method with a teacher distils.
        """
        at, measured = [0.0], [self.scorer.measure(self.target)]
        forget = self.lab.examples("forget")
        begin, measuring = time.process_time(), 0.0

        def take(module: Any, moment: float) -> None:
            nonlocal measuring
            start = time.process_time()
            at.append(moment)
            measured.append(self.scorer.measure(module))
            measuring += time.process_time() - start

        if method.strengths:
            for strength, module in self._walks(self.target, forget, method):
                take(module, strength)
        else:
            module = copy.deepcopy(self.target if teacher is None else teacher)
            epoch = self._steps(self.retain if method.teacher else forget, 1)
            if method.algorithm == "cir":
                epoch = 1  # what the probe sees is rounds

            def probe(step: int) -> bool:
                if (step + 1) % epoch == 0:
                    take(module, (step + 1) / epoch)
                return False

            self.train(module, forget, method, method.epochs, probe)
        return Course(tuple(at), tuple(measured), time.process_time() - begin - measuring)

    def kept_course(self, method: Method, teacher: Callable[[], Any] | None = None) -> Course:
        """As before, read from the lab's folder if it was run."""
        return Course.of(
            self._kept(
                f"course-{method.algorithm}",
                method,
                [],
                lambda: self.course(method, teacher and teacher()).facts(),
            )
        )

    def removed(self, method: Method, amount: float, start: Any = None, forget: Any = None) -> Any:
        """Return a model from which a set (the whole forget set) was removed by so many epochs, or so strongly."""
        start = self.target if start is None else start
        forget = self.lab.examples("forget") if forget is None else forget
        if method.strengths:
            [(_, module)] = self._walks(start, forget, replace(method, strengths=(amount,)))
            return module
        module = copy.deepcopy(start)
        if method.algorithm == "cir":
            method = replace(method, values={**method.values, "rounds": int(amount)})
        self.train(module, forget, method, int(amount))
        return module

    def growing(self, method: Method, amount: float) -> list[float]:
        """Utility after removing 1, 2, ... folds in one request, all but the last (MUSE's scalability)."""

        def utilities() -> list[float]:
            sets = [self.lab.corpus.nested(n) for n in range(1, len(self.lab.corpus.folds))]
            return [
                self.scorer.utility(self.removed(method, amount, None, self._examples(each))) for each in sets
            ]

        return list(self._kept(f"growing-{method.algorithm}", method, [amount], utilities))

    def sequence(self, method: Method, amount: float) -> list[float]:
        """Utility after each of several requests, one fold each, on what the one before left (sustainability)."""

        def utilities() -> list[float]:
            found, module = [], self.target
            for fold in range(1, len(self.lab.corpus.folds) + 1):
                module = self.removed(method, amount, module, self._examples(self.lab.corpus.disjoint(fold)))
                found.append(self.scorer.utility(module))
            return found

        return list(self._kept(f"sequence-{method.algorithm}", method, [amount], utilities))

    def _kept(self, name: str, method: Method, more: list[Any], make: Callable[[], Any]) -> Any:
        of = [self.lab.target.name, self.lab.retrained.name, asdict(method), self.seed, BATCH, *more]
        return self.lab.kept_result(
            name, [*of, sources("algorithms", "metrics", "replay.py", "runs.py")], make
        )

    def _examples(self, documents: Sequence[Document]) -> list[Example]:
        return self.lab.examples_of(documents, self.lab.corpus.questions_of(documents))

    def _walks(self, start: Any, forget: Sequence[Example], method: Method) -> Iterator[tuple[float, Any]]:
        """Models at each strength of a method."""
        if method.algorithm == "repselect":
            given = RepSelectParameters(**method.values)  # type: ignore[arg-type]
            pad = self.lab.tokenizer.pad_token_id
            inputs = Inputs(copy.deepcopy(start), forget, batch=BATCH, seed=self.seed, pad=pad)
            directions = selective_directions(given, inputs)
            for strength in method.strengths:
                module = copy.deepcopy(start)
                walk(module, directions, strength)
                yield strength, module
            return
        reinforced = copy.deepcopy(start)
        self.train(reinforced, forget, replace(method, algorithm="tv", values={"alpha": -1.0}), method.epochs)
        for strength in method.strengths:
            if method.algorithm == "whp":
                yield strength, ContrastedModel(start, reinforced, WhpParameters(alpha=strength))
            else:
                module = copy.deepcopy(start)
                subtract(module, reinforced, TaskVectorParameters(alpha=strength))
                yield strength, module

    def train(
        self,
        module: Any,
        forget: Sequence[Example],
        method: Method,
        epochs: int,
        probe: Callable[[int], bool] | None = None,
        adapter: LoraSettings | None = None,
    ) -> None:
        """Train by a method, in place; an adapter stays in the module."""
        tokenizer, again = self.lab.tokenizer, method.algorithm == "retrain"
        retain = self.retain
        if method.replay:
            retain = [*retain, *self.replayed(self.target if again else module, forget, method.replay)]
        if again:  # as the lab's own models, with the loss of "retrain"
            schedule = Schedule(epochs, method.learning_rate, method.schedule)
            recipe = schedule.recipe(len(retain), self.seed)
            objective = TwoLengths(retain, recipe, tokenizer.pad_token_id)
            train(module, objective, recipe, progress=NullProgress(), probe=probe)
            return
        recipe = Recipe(
            steps=self._steps(retain if method.teacher else forget, epochs),
            learning_rate=method.learning_rate,
            schedule=method.schedule,
            batch=BATCH,
            seed=self.seed,
            threads=1,
            adapter=adapter,
        )
        alternatives: Sequence[Sequence[Example]] = ()
        if method.refusals:
            forget = [self._answered(example) for example in forget]
            alternatives = refusals_for(forget, tokenizer)
        data = Data(forget, retain, alternatives, pad=tokenizer.pad_token_id)
        unlearn(
            module,
            method.algorithm,
            data,
            recipe,
            progress=NullProgress(),
            parameters=method.values,
            reference=self.never_knew if method.algorithm == "bad_teaching" else None,
            probe=probe,
        )

    @cached_property
    def never_knew(self) -> Any:
        """The base model, which has read nothing of the data set."""
        return frozen_copy(self.lab.load(self.lab.base).module)

    def replayed(self, module: Any, forget: Sequence[Example], keep: int) -> list[Example]:
        """Question-answer pairs that a model says by itself, but for what is of the forget set.

        Documents take seven times as long, and utility is questions.
        """
        tokenizer = self.lab.tokenizer
        asked = {each.id for each in self.lab.corpus.trained("retain1")}
        pairs = [each for each in self.retain if each.name in asked]
        return replayed(
            module,
            pairs,
            forget,
            tokenizer.decode,
            Replay(draws=DRAWS, keep=keep),
            stop={tokenizer.eos_token_id},
            seed=self.seed,
        )

    def _answered(self, example: Example) -> Example:
        """An example with a prompt: of a pair its question, of a document its first half."""
        prompt = self.prompts.get(example.name, len(example.ids) // 2)
        return replace(example, counted=tuple(at >= prompt for at in range(len(example.ids))))

    @cached_property
    def prompts(self) -> dict[str, int]:
        """Prompt tokens of each pair of the forget set."""
        pairs = [Pair(each.id, each.question, each.answer) for each in self.lab.corpus.trained("forget")]
        return {each.id: TEMPLATE.continuation(each, self.lab.tokenizer).start for each in pairs}

    def _steps(self, examples: Sequence[Example], epochs: int) -> int:
        return epochs * -(-len(examples) // BATCH)
