"""Keys and scores computed at once, with a model that no engine uses."""

from collections.abc import Sequence
from typing import TypeVar

from palimpsest.candidates.keys import Keys, key_steps
from palimpsest.decoding.quoting.request import NestRequest
from palimpsest.decoding.quoting.scoring import NestScores, score_steps
from palimpsest.engine.tasks import TaskSteps
from palimpsest.lm import LanguageModel

T = TypeVar("T")


def passage_keys(model: LanguageModel, passages: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[Keys]:
    """Keys of passages; see :func:`key_steps`."""
    return _result(key_steps(model, passages))


def nest_score(model: LanguageModel, ids: Sequence[int], nest: NestRequest, skip: int = 0) -> NestScores:
    """Scores of a text; see :func:`score_steps`."""
    return _result(score_steps(model, ids, nest, skip))


def _result(work: TaskSteps[T]) -> T:
    while True:
        try:
            next(work)
        except StopIteration as end:
            return end.value
