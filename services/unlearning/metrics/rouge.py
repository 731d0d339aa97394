"""ROUGE-L by Google's ``rouge_score``, in the conventions of three benchmarks."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from rouge_score.rouge_scorer import RougeScorer
from rouge_score.tokenizers import DefaultTokenizer

from palimpsest.errors import InvalidArgument, Reason


@dataclass(frozen=True)
class Convention:
    """Whose ROUGE-L.

    Parameters
    ----------
    name
        Its name in results.
    stemmer
        Whether words are reduced to their stems first, which makes scores a little higher.
    statistic
        Which number of ``rouge_score`` counts.
    """

    name: str
    stemmer: bool
    statistic: Literal["fmeasure", "recall"]


CONVENTIONS = {
    convention.name: convention
    for convention in (
        Convention("muse", stemmer=False, statistic="fmeasure"),
        Convention("open_unlearning", stemmer=True, statistic="fmeasure"),
        Convention("tofu", stemmer=True, statistic="recall"),
    )
}
"""Conventions by name: MUSE section 3, the OpenUnlearning framework, TOFU section 2.2."""


def convention_named(name: str) -> Convention:
    """Look a convention up.

    Raises
    ------
    InvalidArgument
        METRIC_CONVENTION_UNKNOWN.
    """
    if name not in CONVENTIONS:
        message = f"There is no ROUGE convention {name!r}. Use one of {', '.join(CONVENTIONS)}."
        raise InvalidArgument(Reason.METRIC_CONVENTION_UNKNOWN, message)
    return CONVENTIONS[name]


def rouge_l(truths: Sequence[str], output: str, convention: Convention) -> float:
    """ROUGE-L of an output against the truth it is most like.

    Parameters
    ----------
    truths
        The true text and its aliases.
    output
        What the model wrote.
    convention
        Whose.

    Returns
    -------
    float
        0 to 1.

    Raises
    ------
    InvalidArgument
        METRIC_ITEMS_INVALID: a truth without a word that ``rouge_score`` reads, which are made of a-z and 0-9. Every
        output would score 0, and what is still remembered would pass for removed.
    """
    words = _tokenizer(convention.stemmer)
    for truth in truths:
        if not words.tokenize(truth):
            message = (
                "ROUGE-L reads words of a-z and 0-9 only, and the true text has none. Leave the item out, and measure "
                "text in other scripts by extraction strength and exact memorisation."
            )
            raise InvalidArgument(Reason.METRIC_ITEMS_INVALID, message)
    scorer = _scorer(convention.stemmer)
    return max(
        float(getattr(scorer.score(truth, output)["rougeL"], convention.statistic)) for truth in truths
    )


@lru_cache
def _scorer(stemmer: bool) -> Any:
    return RougeScorer(["rougeL"], tokenizer=_tokenizer(stemmer))


@lru_cache
def _tokenizer(stemmer: bool) -> Any:
    return DefaultTokenizer(stemmer)
