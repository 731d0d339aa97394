"""What a request measures of a model: the same items of every model that it compares."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import nn

from palimpsest.progress import Progress
from services.unlearning.metrics.fluency import perplexity
from services.unlearning.metrics.intervals import Bootstrap
from services.unlearning.metrics.items import Pair, Prompt, Template, Text, least
from services.unlearning.metrics.membership import Membership, auc_score, membership
from services.unlearning.metrics.muse import (
    KNOWMEM,
    UTILITY,
    VERBMEM,
    knowledge_memory,
    privacy_leak,
    verbatim_memory,
)
from services.unlearning.metrics.scores import ItemValue, Score
from services.unlearning.removal.datasets.sets import DataSet
from services.unlearning.removal.plan import ResolvedPlan

MOST_ITEMS, MOST_ATTACKED = 200, 50
"""Items of one metric, for the measurements and for attacks: those whose digests of their ids are the least."""
PROMPT, TRUTH, ANSWER = 256, 64, 32
"""Most tokens of the beginning that a document is continued from, of the continuation, and of an answer."""
_AUC = "auc_min_k"
_NO_LIMIT = 1 << 20
"""Tokens, with a model that does not tell its context length."""

Named = TypeVar("Named", Text, Prompt, Pair, ItemValue)


@dataclass(frozen=True)
class Items:
    """What is asked.

    Attributes
    ----------
    verbatim
        Beginnings of documents to forget, and how they go on.
    questions
        About what is to be forgotten.
    texts, holdout
        Documents whose membership is tested.
    utility, kept
        Questions about what is to be kept, or, where there are none, documents of it.
    """

    verbatim: tuple[Prompt, ...]
    questions: tuple[Pair, ...]
    texts: tuple[Text, ...]
    holdout: tuple[Text, ...]
    utility: tuple[Pair, ...]
    kept: tuple[Text, ...]

    def fewer(self) -> "Items":
        """Those that attacks are measured on."""
        return Items(
            _some(self.verbatim, MOST_ATTACKED), _some(self.questions, MOST_ATTACKED), (), (), (), ()
        )


def items_of(plan: ResolvedPlan, tokenizer: Any) -> Items:
    """Choose the items of a plan; what does not fit the model's context is cut, or left out."""
    limit = plan.model.context_length or _NO_LIMIT
    forget, holdout = _texts(plan, "forget", tokenizer), _texts(plan, "holdout", tokenizer)
    kept = "utility" if "utility" in plan.sets else "retain"
    utility = _questions(plan, kept, tokenizer, limit)
    return Items(
        verbatim=_some([prompt for text in forget for prompt in _cut(text, tokenizer, limit)], MOST_ITEMS),
        questions=_questions(plan, "forget", tokenizer, limit),
        texts=_some(forget, MOST_ITEMS) if holdout else (),
        holdout=_some(holdout, MOST_ITEMS) if forget else (),
        utility=utility,
        kept=() if utility else _some(_texts(plan, kept, tokenizer), MOST_ITEMS),
    )


def rechecked_items(source: DataSet, tokenizer: Any, context_length: int) -> Items:
    """What later requests look for a forget set's data by: those of its items that attacks are measured on."""
    limit = context_length or _NO_LIMIT
    prompts = [
        prompt for text in _cut_off(source, tokenizer, limit) for prompt in _cut(text, tokenizer, limit)
    ]
    return Items(tuple(prompts), _fitting(source.questions, tokenizer, limit), (), (), (), ()).fewer()


def rechecked_values(score: Score) -> NDArray[np.float64]:
    """Values of the items of :func:`rechecked_items` in a score of all, float64 [items]; none of other metrics."""
    if score.metric not in (VERBMEM.metric, KNOWMEM.metric):
        return np.zeros(0)
    return np.array([item.value for item in _some(score.items, MOST_ATTACKED)], dtype=np.float64)


def measure(
    module: nn.Module, tokenizer: Any, items: Items, progress: Progress, *, intervals: bool = True
) -> list[Score]:
    """Measure a model by every metric that has items.

    Raises
    ------
    FailedPrecondition
        METRIC_NOT_FINITE: the model puts out NaN.
    """
    bootstrap = Bootstrap() if intervals else Bootstrap(resamples=0)
    found = []
    if items.verbatim:
        found.append(
            verbatim_memory(
                module, tokenizer, items.verbatim,
                max_new_tokens=TRUTH, bootstrap=bootstrap, progress=progress,
            )
        )  # fmt: skip
    if items.questions:
        found.append(_asked(module, tokenizer, items.questions, bootstrap, progress))
    if items.texts and items.holdout:
        scores = membership(module, tokenizer, items.texts, items.holdout, progress=progress)
        found.append(auc_score(scores["min_k"], bootstrap))
    if items.utility:
        found.append(_asked(module, tokenizer, items.utility, bootstrap, progress, definition=UTILITY))
    if items.kept:
        found.append(perplexity(module, tokenizer, items.kept, bootstrap=bootstrap, progress=progress))
    return found


def leaks(after: Sequence[Score], references: Mapping[str, Sequence[Score]]) -> dict[str, Score]:
    """PrivLeak of a model against each reference that tells members from others at all; empty without a holdout set."""
    ours = _membership(after)
    if ours is None:
        return {}
    theirs = {name: _membership(scores) for name, scores in references.items()}
    aucs = {
        name: next((s.value for s in scores if s.metric == _AUC), 0.0) for name, scores in references.items()
    }
    return {
        name: privacy_leak(ours, each) for name, each in theirs.items() if each is not None and aucs[name]
    }


def _membership(scores: Sequence[Score]) -> Membership | None:
    """The numbers that an AUC was computed from."""
    found = next((score for score in scores if score.metric == _AUC), None)
    if found is None:
        return None
    forget, holdout = (
        {item.id: item.value for item in found.items if item.group == group}
        for group in ("forget", "holdout")
    )
    return Membership("min_k", forget, holdout)


def values_of(score: Score) -> NDArray[np.float64]:
    """Values of a score's items, float64 [items]."""
    return np.array([item.value for item in score.items], dtype=np.float64)


def _asked(
    module: nn.Module,
    tokenizer: Any,
    pairs: Sequence[Pair],
    bootstrap: Bootstrap,
    progress: Progress,
    **more: Any,
) -> Score:
    return knowledge_memory(
        module, tokenizer, pairs, max_new_tokens=ANSWER, bootstrap=bootstrap, progress=progress, **more
    )


def _texts(plan: ResolvedPlan, field: str, tokenizer: Any) -> list[Text]:
    found = plan.sets.get(field)
    return _cut_off(found.source, tokenizer, plan.model.context_length or _NO_LIMIT) if found else []


def _cut_off(source: DataSet, tokenizer: Any, limit: int) -> list[Text]:
    return [Text(each.id, each.ids(tokenizer)[:limit]) for each in source.documents]


def _questions(plan: ResolvedPlan, field: str, tokenizer: Any, limit: int) -> tuple[Pair, ...]:
    found = plan.sets.get(field)
    return _some(_fitting(found.source.questions if found else (), tokenizer, limit), MOST_ITEMS)


def _fitting(pairs: Sequence[Pair], tokenizer: Any, limit: int) -> tuple[Pair, ...]:
    template = Template()
    return tuple(each for each in pairs if len(template.prompt_ids(each, tokenizer)) + ANSWER <= limit)


def _cut(text: Text, tokenizer: Any, limit: int) -> list[Prompt]:
    """The first half of a document and how it goes on; nothing of one that is too short."""
    ids = text.ids(tokenizer)
    prompt = min(len(ids) // 2, PROMPT, limit - TRUTH)
    return [Prompt.cut(text, tokenizer, prompt, TRUTH)] if prompt >= 2 else []


def _some(items: Sequence[Named], most: int) -> tuple[Named, ...]:
    chosen = least((item.id for item in items), most)
    return tuple(item for item in items if item.id in chosen)
