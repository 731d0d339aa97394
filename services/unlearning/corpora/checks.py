"""What has to hold of a data set, or its figures mean something else.

A name that is in two splits lets a model that never saw one of them answer about it. Forget and holdout texts of
different lengths are told apart by their length, and then membership is no longer what the attack measures.
"""

import re
from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import Any

from palimpsest.errors import InvalidArgument, Reason
from services.unlearning.corpora.corpus import SPLITS, Corpus
from services.unlearning.corpora.records import Document, Split

LEAST_P = 0.1
"""Least p-value of the test that two sets of lengths are of one distribution."""

ONE_WORLD: frozenset[Split] = frozenset({"forget", "retain1", "retain2"})
"""Splits of books that are about the same world, and share its names on purpose."""

_WORD = re.compile(r"\w+")


def require_disjoint(corpus: Corpus) -> None:
    """Check that no invented word of a split is in a text, question or answer of another.

    Splits of books about one world are not compared with each other: there the novels are to be forgotten and the
    pages are not, and both name the same characters and towns.

    Raises
    ------
    InvalidArgument
        DATASET_SPLITS_OVERLAP, with the word and the splits.
    """
    books = any(document.domain == "books" for document in corpus.documents)
    invented = {split: _invented(corpus.split(split)) for split in SPLITS}
    used = {split: _used(corpus, split) for split in SPLITS}
    for one, other in combinations(SPLITS, 2):
        if books and {one, other} <= ONE_WORLD:
            continue
        common = (invented[one] & used[other]) | (invented[other] & used[one])
        if common:
            word = min(common)
            raise InvalidArgument(
                Reason.DATASET_SPLITS_OVERLAP,
                f"The name {word!r} is in both {one} and {other}. Give every split names of its own.",
                metadata={"word": word, "splits": f"{one},{other}", "words": len(common)},
            )


def require_matched(forget: Sequence[int], holdout: Sequence[int]) -> float:
    """Check that lengths of two sets of texts are of one distribution (two-sample Kolmogorov-Smirnov test).

    Parameters
    ----------
    forget, holdout
        Lengths in words or tokens; at least one each.

    Returns
    -------
    float
        The p-value.

    Raises
    ------
    InvalidArgument
        DATASET_LENGTHS_DIFFER.
    """
    if not forget or not holdout:
        message = "There are no texts to compare. Give the forget and the holdout set at least one text each."
        raise InvalidArgument(Reason.DATASET_LENGTHS_DIFFER, message)
    p = matching(forget, holdout)
    if p <= LEAST_P:
        raise InvalidArgument(
            Reason.DATASET_LENGTHS_DIFFER,
            f"Texts of the forget and the holdout set differ in length (p = {p:.3g}, and more than {LEAST_P} is "
            "needed), so that length alone tells them apart. Cut both alike, or choose other holdout texts.",
            metadata={"p": f"{p:.4g}", "forget": len(forget), "holdout": len(holdout)},
        )
    return p


def matching(first: Sequence[int], second: Sequence[int]) -> float:
    """The p-value of the two-sample Kolmogorov-Smirnov test."""
    from scipy.stats import ks_2samp  # a second to import, which no other use of data sets should pay

    result: Any = ks_2samp(first, second)
    return float(result.pvalue)


def lengths(texts: Iterable[str]) -> list[int]:
    """Words of each text."""
    return [len(text.split()) for text in texts]


def _invented(documents: Iterable[Document]) -> set[str]:
    found: set[str] = set()
    for document in documents:
        words = document.meta.get("words", [])
        if isinstance(words, list):
            found.update(words)
    return found


def _used(corpus: Corpus, split: Split) -> set[str]:
    texts = [document.text for document in corpus.split(split)]
    for each in corpus.questions.get(split, ()):
        texts += [each.question, each.answer, *each.aliases, *each.paraphrases]
    return {word for text in texts for word in _WORD.findall(text)}
