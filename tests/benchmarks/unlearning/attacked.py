"""Models of the lab unlearned until they know no more than a retrained one, and what attacks then bring back in them.

Every unlearned model and every outcome is kept, so that a run that was stopped goes on where it was.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from palimpsest.progress import NullProgress
from palimpsest.training import Example, Recipe, train
from palimpsest.training.cross_entropy import CrossEntropy
from services.unlearning.attacks import Attack, Outcome, Query, attack_model, held_out, part_of, related
from services.unlearning.attacks.measuring import scores_of
from services.unlearning.attacks.quantisation import Scheme, quantised
from services.unlearning.corpora import Question
from services.unlearning.metrics import Bootstrap, Pair, Prompt, knowledge_memory, verbatim_memory
from services.unlearning.runs import Data
from tests.benchmarks.unlearning.lab import TEMPLATE, Lab, sources
from tests.benchmarks.unlearning.unlearned import BATCH, Removal, unlearned, within_half_a_step

ATTACK_RATE = 1e-4
QUESTIONS, TOKENS = 60, 32
"""Questions of each set that are asked, and tokens of a continuation: enough for intervals of some ten points."""
RELEARN_STEPS = (15, 30, 60)
CODE = ("algorithms", "attacks", "metrics", "runs.py")
_NO_INTERVAL = Bootstrap(resamples=0)


class Victims:
    """Models of one lab, and the attacks on them.

    Parameters
    ----------
    lab
        With its base, target and retrained model.
    removals
        By name.
    seed
        Of removals and attacks.
    """

    def __init__(self, lab: Lab, removals: Sequence[Removal], seed: int = 1) -> None:
        self.lab, self.seed = lab, seed
        self.removals = {each.name: each for each in removals}
        corpus = lab.corpus
        self.pad = lab.tokenizer.pad_token_id
        self.asked = _some(corpus.trained("forget"), QUESTIONS)
        self.kept = _some(corpus.trained("retain2"), QUESTIONS)
        self.prompts = [Prompt(each.id, each.prompt, each.gt) for each in corpus.verbatim["forget"]]
        self.document = {each.id: each.doc_id for each in (*self.asked, *corpus.verbatim["forget"])}

    @cached_property
    def forget(self) -> list[Example]:
        """Training sequences of the forget set."""
        return self.lab.examples("forget")

    @cached_property
    def retain(self) -> list[Example]:
        """Those of what may be trained on to keep it."""
        return self.lab.examples("retain1")

    def path(self, name: str) -> Any:
        """Folder of a model: "base", "target", "retrained", or a removal's."""
        if name in ("base", "target", "retrained"):
            return getattr(self.lab, name)
        removal = self.removals[name]
        parts = [asdict(removal), self.path(removal.start or "target").name, self.lab.retrained.name]
        return self.lab.kept_model(
            f"unlearned-{removal.algorithm}",
            [*parts, self.seed, QUESTIONS, sources("algorithms", "metrics", "runs.py")],
            lambda: self._unlearned(removal),
        )

    def module(self, name: str) -> Any:
        """The model, anew."""
        return self.lab.load(self.path(name)).module

    def knowledge(self, module: nn.Module, rows: Sequence[Question]) -> float:
        """KnowMem of some questions."""
        pairs = [Pair(each.id, each.question, each.answer, each.aliases) for each in rows]
        return knowledge_memory(
            module, self.lab.tokenizer, pairs, template=TEMPLATE, max_new_tokens=16, bootstrap=_NO_INTERVAL
        ).value

    def state(self, name: str) -> dict[str, float]:
        """What a model knows, unattacked: VerbMem, KnowMem, and KnowMem of retain2."""

        def measure() -> dict[str, float]:
            module = self.module(name)
            return {**_means(self.scores(module)), "utility": self.knowledge(module, self.kept)}

        return dict(self._kept("state", [name, self.path(name).name], measure))

    @cached_property
    def scores(self) -> Callable[[nn.Module], Any]:
        """Both metrics of the forget set, item by item."""
        tokenizer = self.lab.tokenizer
        pairs = [Pair(each.id, each.question, each.answer, each.aliases) for each in self.asked]
        return scores_of(
            lambda module: verbatim_memory(
                module, tokenizer, self.prompts, max_new_tokens=TOKENS, bootstrap=_NO_INTERVAL
            ),
            lambda module: knowledge_memory(
                module, tokenizer, pairs, template=TEMPLATE, max_new_tokens=16, bootstrap=_NO_INTERVAL
            ),
        )

    def outcome(self, name: str, attack: Attack) -> Outcome:
        """What an attack does to a model."""

        def run() -> dict[str, Any]:
            found = attack_model(self.module(name), self.scores, [attack])[attack.name]
            return {"before": _lists(found.before), "after": _lists(found.after)}

        kept = self._kept("attack", [attack.name, self.path(name).name], run)
        return Outcome(attack.name, _arrays(kept["before"]), _arrays(kept["after"]))

    def relearned(self, name: str, attack: str) -> dict[int, Outcome]:
        """Relearning of one kind, measured along one run: at a constant rate, n steps of it are a run of n steps."""
        examples, measured = self.relearning[attack]

        def run() -> dict[str, Any]:
            module, after = self.module(name), {}
            before = self.scores(module)
            recipe = Recipe(
                steps=max(RELEARN_STEPS), learning_rate=ATTACK_RATE, batch=BATCH, seed=self.seed, threads=1
            )

            def probe(step: int) -> bool:
                if step + 1 in RELEARN_STEPS:
                    after[step + 1] = _lists(self.scores(module))
                return False

            objective = CrossEntropy(examples, recipe, self.pad)
            train(module, objective, recipe, progress=NullProgress(), probe=probe)
            return {"before": _lists(before), "after": {str(step): each for step, each in after.items()}}

        kept = self._kept("relearned", [attack, self.path(name).name, RELEARN_STEPS], run)
        return {
            step: Outcome(attack, _of(kept["before"], measured), _of(kept["after"][str(step)], measured))
            for step in RELEARN_STEPS
        }

    @cached_property
    def relearning(self) -> dict[str, tuple[list[Example], Mapping[str, Sequence[int]]]]:
        """What each kind of relearning trains on, and the items of each metric that it does not teach."""
        corpus = self.lab.corpus
        texts = {each.id: each.text for each in corpus.split("forget")}
        about = {}
        for each in corpus.trained("forget"):
            texts[each.id], about[each.id] = f"{each.question}\n{each.answer}", each.doc_id
        part = part_of(self.forget, 0.1, {**{name: name for name in texts}, **about})
        taught = related({example.name for example in part}, texts, about)
        names = {
            "verbmem": [self.document[each.id] for each in self.prompts],
            "knowmem": [each.id for each in self.asked],
        }
        left = held_out([Example((0, 0), (False, True), name) for name in sorted(taught)], names)
        every = {metric: range(len(each)) for metric, each in names.items()}
        unrelated = self.lab.document_examples(self.lab.generic.documents)
        return {
            "relearn/retain": (self.retain, every),
            "relearn/part": (part, left),
            "relearn/unrelated": (unrelated, every),
        }

    def constructed(self, scheme: Scheme) -> dict[str, Any]:
        """The target unlearned within half a step of the int4 grid: its means, quantised too, and the target's."""

        def run() -> dict[str, Any]:
            target = self.module("target")
            moved = within_half_a_step(target, self.forget, steps=60)
            means = {"unlearned": _means(self.scores(moved))}
            with quantised(moved, scheme), quantised(target, scheme):
                pairs = zip(moved.parameters(), target.parameters(), strict=True)
                equal = all(torch.equal(ours, theirs) for ours, theirs in pairs)
                means |= {"attacked": _means(self.scores(moved)), "target": _means(self.scores(target))}
            return {**means, "equal": float(equal)}

        return dict(self._kept("constructed", [scheme.name, self.path("target").name], run))

    def queries(self) -> tuple[list[Query], list[Query], list[Query]]:
        """Questions, beginnings of documents, and solved questions of others, for attacks that ask otherwise."""
        rows = self.lab.corpus.questions["icl"]
        return (
            [_query(each) for each in self.asked],
            [Query(each.id, str(each.prompt), str(each.truth)) for each in self.prompts],
            [_query(each) for each in rows[:4]],
        )

    def _kept(self, name: str, parts: list[Any], run: Callable[[], Any]) -> Any:
        settings = [BATCH, ATTACK_RATE, QUESTIONS, TOKENS, self.seed]
        return self.lab.kept_result(f"attacked-{name}", [*parts, settings, sources(*CODE)], run)

    def _unlearned(self, removal: Removal) -> Any:
        most = self.state("retrained")["knowmem"] if removal.stops else -1.0
        data = Data(self.forget, self.retain, pad=self.pad)
        module = self.module(removal.start or "target")
        return unlearned(
            module, removal, data, self.seed, lambda each: self.knowledge(each, self.asked) <= most
        )


def _some(rows: Sequence[Question], most: int) -> list[Question]:
    chosen = sorted(rows, key=lambda each: hashlib.sha256(each.id.encode()).digest())[:most]
    return [each for each in rows if each in chosen]


def _query(row: Question) -> Query:
    return Query(row.id, row.question, row.answer, row.paraphrases, row.aliases)


def _means(scores: Mapping[str, NDArray[np.float64]]) -> dict[str, float]:
    return {metric: float(values.mean()) for metric, values in scores.items()}


def _lists(scores: Mapping[str, NDArray[np.float64]]) -> dict[str, list[float]]:
    return {metric: [float(value) for value in values] for metric, values in scores.items()}


def _arrays(kept: Mapping[str, Sequence[float]]) -> dict[str, NDArray[np.float64]]:
    return {metric: np.array(values) for metric, values in kept.items()}


def _of(
    kept: Mapping[str, Sequence[float]], measured: Mapping[str, Sequence[int]]
) -> dict[str, NDArray[np.float64]]:
    return {metric: np.array(values)[list(measured[metric])] for metric, values in kept.items()}
