"""Removal that ends by itself: the product's watch over a run of the lab."""

import copy
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from palimpsest.training import Example, LoraSettings
from palimpsest.training.adapters import attach, merge
from palimpsest.training.order import derived_seed
from services.unlearning.corpora import Question
from services.unlearning.metrics import Pair
from services.unlearning.stopping import Choice, Watch
from tests.benchmarks.unlearning.lab import TEMPLATE, Lab
from tests.benchmarks.unlearning.methods import Method
from tests.benchmarks.unlearning.removing import Remover


@dataclass(frozen=True)
class Ended:
    """A removal that has ended.

    Attributes
    ----------
    module
        The model after it.
    choice
        Which state it is, and why the run ended there.
    seconds
        CPU seconds of training and of the looks on the way.
    """

    module: Any
    choice: Choice
    seconds: float

    @property
    def why(self) -> str:
        """For a table."""
        decision, at = self.choice.decision, self.choice.measurement.step
        ended = "steps used up" if decision is None else f"{decision.rule}: {decision.outcome}"
        return f"{ended} at step {self.choice.last.step:g}, kept {at:g}"


def answers(lab: Lab, questions: Iterable[Question]) -> list[Example]:
    """Questions of which the answers alone count, as a request's probe reads them."""
    pairs = [Pair(each.id, each.question, each.answer) for each in questions]
    made = [TEMPLATE.continuation(pair, lab.tokenizer) for pair in pairs]
    return [
        Example(each.ids, tuple(at >= each.start for at in range(len(each.ids))), each.id) for each in made
    ]


def watched(
    remover: Remover,
    start: Any,
    forget: Sequence[Example],
    method: Method,
    watch_of: Callable[[Any], Watch],
    adapter: LoraSettings | None = None,
) -> Ended:
    """Remove examples from a copy of a model until its watch says so.

    Parameters
    ----------
    remover
        Of the lab, with the removal's seed.
    start
        The model before.
    forget
        What is removed.
    method
        How; its epochs are the most.
    watch_of
        Makes the watch of a module.
    adapter
        Train this, and merge it at the end.
    """
    module, begin = copy.deepcopy(start), time.process_time()
    if adapter is not None:
        # The watch keeps the weights that train, and so begins once the adapter is there.
        attach(module, adapter, derived_seed(remover.seed, "adapter"))
    watch = watch_of(module)
    watch.begin()
    remover.train(module, forget, method, method.epochs, watch, adapter)
    choice = watch.finish()
    if adapter is not None:
        merge(module)
    return Ended(module, choice, time.process_time() - begin)
