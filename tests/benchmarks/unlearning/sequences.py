"""Requests that follow one another, each by an adapter that stops by itself, and one request that grows."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from palimpsest.training import Example, LoraSettings
from palimpsest.training.saving import save_model
from services.unlearning.corpora import Document
from services.unlearning.metrics.scores import Score
from services.unlearning.stopping import Bound, DivergenceGuard, ForgetMatch, Probe, Scalarisation, Watch
from tests.benchmarks.unlearning.lab import Lab, sources
from tests.benchmarks.unlearning.methods import Method
from tests.benchmarks.unlearning.removing import Remover
from tests.benchmarks.unlearning.scoring import Scorer
from tests.benchmarks.unlearning.watching import Ended, answers, watched

COHORT = 5
"""Requests between two looks at all earlier sets."""
LOOK = 2
"""Steps between two looks of a request's own probe."""
ADAPTER = LoraSettings(rank=8)
METHOD = Method("GA+GDR by adapter", "ga_gdr", {"alpha": 10.0}, learning_rate=1e-3, epochs=90)


@dataclass(frozen=True)
class Request:
    """One request of a stream.

    Attributes
    ----------
    seconds
        CPU seconds of training and of its own probe.
    steps
        That were trained.
    why
        It ended.
    verbmem, knowmem
        Of its own set, right after it.
    utility
        Right after it.
    """

    seconds: float
    steps: float
    why: str
    verbmem: float
    knowmem: float
    utility: float


@dataclass(frozen=True)
class Look:
    """Sets of all requests so far, measured again: [requests] each."""

    verbmem: tuple[float, ...]
    knowmem: tuple[float, ...]


@dataclass(frozen=True)
class Stream:
    """Requests in their order, and the looks after every :data:`COHORT` of them."""

    requests: tuple[Request, ...]
    looks: tuple[Look, ...]

    def rises(self, what: str) -> list[list[float]]:
        """Of each look, how much more is known of each earlier set than right after its own request."""
        own = [getattr(each, what) for each in self.requests]
        return [
            [after - before for after, before in zip(getattr(look, what), own, strict=False)]
            for look in self.looks
        ]

    def cohorts(self, what: str) -> list[list[float]]:
        """Of each look, the mean rise of each cohort."""
        return [
            [mean(rises[at : at + COHORT]) for at in range(0, len(rises), COHORT)]
            for rises in self.rises(what)
        ]


class Requests:
    """Carries requests out on a lab's target."""

    def __init__(self, lab: Lab, seed: int = 1) -> None:
        self.lab, self.seed, self.scorer = lab, seed, Scorer(lab)
        self.retrained = lab.load(lab.retrained).module

    def removed(self, start: Any, documents: Sequence[Document], seed: int) -> Ended:
        """Remove some documents and what is asked about them."""
        remover = Remover(self.lab, self.scorer, seed)
        questions = self.lab.corpus.questions_of(documents)
        forget = self.lab.examples_of(documents, questions)
        asked = [each for each in questions if each.training == "trained"]
        seen = [*self.lab.document_examples(documents), *answers(self.lab, asked)]
        return watched(remover, start, forget, METHOD, lambda module: self._watch(module, seen), ADAPTER)

    def _watch(self, module: Any, forget: Sequence[Example]) -> Watch:
        """Two of the product's ``forget_match``: the set is recited no more, or is no likelier, than by the reference.

        Shares of right tokens come down slowly where most tokens follow from those before them, whoever reads. Some
        losses have no bound, and run far past the reference until then.
        """
        probe = Probe(forget, pad=self.lab.tokenizer.pad_token_id)
        known = probe.measure(self.retrained, 0)
        recited = Bound("forget_em", known["forget_em"])
        likely = Bound("forget_nll", known["forget_nll"], higher_knows=False)
        rules = [ForgetMatch((recited,)), ForgetMatch((likely,), "likelihood_match")]
        guard = DivergenceGuard(len(self.lab.tokenizer))
        return Watch(module, probe.measure, rules, Scalarisation((recited, likely)), guard, every=LOOK)

    def stream(self) -> Stream:
        """All requests, from where an earlier run of this was stopped."""
        requests: list[Request] = []
        looks: list[Look] = []
        before = self.lab.target
        for first in range(0, len(self.lab.corpus.folds), COHORT):
            before, found = self._cohort(before, first)
            requests += [Request(**each) for each in found["requests"]]
            looks.append(Look(tuple(found["verbmem"]), tuple(found["knowmem"])))
        return Stream(tuple(requests), tuple(looks))

    def growing(self) -> list[dict[str, Any]]:
        """One request of 1, 2, ... folds at once."""
        return self.lab.kept_result("growing-by-adapter", self._parts(self.lab.target), self._grown)

    def _grown(self) -> list[dict[str, Any]]:
        target, found = self.lab.load(self.lab.target).module, []
        for folds in range(1, len(self.lab.corpus.folds) + 1):
            documents = self.lab.corpus.nested(folds)
            ended = self.removed(target, documents, self.seed)
            found.append({"documents": len(documents)} | self._facts(ended, documents))
            print(f"seed {self.lab.seed}: {folds} folds: {line_of(found[-1])}", flush=True)
        return found

    def _cohort(self, before: Path, first: int) -> tuple[Path, Mapping[str, Any]]:
        def make(folder: Path) -> None:
            module, found = self.lab.load(before).module, []
            for fold in range(first + 1, first + COHORT + 1):
                documents = self.lab.corpus.disjoint(fold)
                ended = self.removed(module, documents, self.seed + fold)
                module = ended.module
                found.append(self._facts(ended, documents))
                print(f"request {fold}: {line_of(found[-1])}", flush=True)
            save_model(module, before, folder)
            facts = {"requests": found} | self._earlier(module, first + COHORT)
            (folder / "result.json").write_text(json.dumps(facts))

        after = self.lab.kept_folder("stream", [*self._parts(before), first], make)
        return after, json.loads((after / "result.json").read_text())

    def _facts(self, ended: Ended, documents: Sequence[Document]) -> dict[str, Any]:
        verbmem, knowmem = self._known(ended.module, {each.id for each in documents})
        request = Request(
            ended.seconds,
            ended.choice.last.step,
            ended.why,
            mean(verbmem.values()),
            mean(knowmem.values()),
            self.scorer.utility(ended.module),
        )
        return asdict(request)

    def _earlier(self, module: Any, requests: int) -> dict[str, list[float]]:
        """VerbMem and KnowMem of each set so far."""
        folds = self.lab.corpus.folds[:requests]
        found = self._known(module, {each for fold in folds for each in fold})
        return {
            name: [mean(values[each] for each in fold) for fold in folds]
            for name, values in zip(("verbmem", "knowmem"), found, strict=True)
        }

    def _known(self, module: Any, documents: set[str]) -> tuple[dict[str, float], dict[str, float]]:
        """VerbMem and KnowMem by document."""
        prompts = tuple(each for each in self.lab.corpus.verbatim["forget"] if each.doc_id in documents)
        questions = tuple(each for each in self.lab.corpus.trained("forget") if each.doc_id in documents)
        return (
            by_document(self.scorer.verbatim_score(module, prompts), [each.doc_id for each in prompts]),
            by_document(self.scorer.knowledge_score(module, questions), [each.doc_id for each in questions]),
        )

    def _parts(self, start: Path) -> list[Any]:
        adapter = [ADAPTER.rank, ADAPTER.scale]
        code = sources("algorithms", "metrics", "stopping", "replay.py", "runs.py")
        return [start.name, self.lab.retrained.name, asdict(METHOD), adapter, LOOK, COHORT, self.seed, code]


def by_document(score: Score, documents: Sequence[str]) -> dict[str, float]:
    """Means of a score's items over the document that each is of."""
    found: dict[str, list[float]] = {}
    for item, document in zip(score.items, documents, strict=True):
        found.setdefault(document, []).append(item.value)
    return {document: mean(values) for document, values in found.items()}


def line_of(facts: Mapping[str, Any]) -> str:
    """A request for a table."""
    return (
        f"V {facts['verbmem']:.1f}, K {facts['knowmem']:.1f}, U {facts['utility']:.1f}, "
        f"{facts['seconds']:.1f} CPU s ({facts['why']})"
    )
