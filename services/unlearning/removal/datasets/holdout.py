"""What has to hold of a holdout set, or membership measured against it means something else.

Its texts were never trained on: one that is in the forget set, or in the retain set that training goes on with, is a
member itself. And its documents are as long as those to be forgotten, or their length alone tells the two apart.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from palimpsest.errors import InvalidArgument, Reason
from services.unlearning.corpora.checks import LEAST_P, matching
from services.unlearning.corpora.overlap import MOST_SHARED, find_overlaps
from services.unlearning.corpora.records import Document
from services.unlearning.metrics.items import least
from services.unlearning.removal.datasets.sets import DataSet, EncodedSet

MOST_DOCUMENTS = 200
"""Documents of one set whose membership is measured."""
_NAMED = 100
_SETS: tuple[Literal["forget", "retain"], ...] = ("forget", "retain")
_REASONS = {"forget": Reason.FORGET_HOLDOUT_OVERLAP, "retain": Reason.HOLDOUT_RETAIN_OVERLAP}


@dataclass(frozen=True)
class Seen:
    """A document of the holdout set whose text is in another set as well.

    Attributes
    ----------
    holdout
        Its id.
    set, other
        The other set, and the id of an entry there.
    share
        Share of the runs of 13 words that are in the other set: of the document's own, or, with the forget set, of the
        other entry's if that is larger, for a part of a document is no more new than the whole.
    """

    holdout: str
    set: Literal["forget", "retain"]
    other: str
    share: float


@dataclass(frozen=True)
class LengthMatch:
    """Lengths of documents of the forget and the holdout set, compared.

    Attributes
    ----------
    p
        p-value of the two-sample Kolmogorov-Smirnov test.
    documents
        How many were compared, of both sets together.
    """

    p: float
    documents: int

    @property
    def matched(self) -> bool:
        """Whether the lengths may be of one distribution."""
        return self.p > LEAST_P


def seen_in_training(found: Mapping[str, DataSet]) -> tuple[Seen, ...]:
    """Compare the documents of a holdout set with the forget set and the retain set; largest share first.

    Parameters
    ----------
    found
        Data sets by the plan's fields. Without a holdout set nothing is compared.
    """
    if "holdout" not in found:
        return ()
    own = [Document(id=each.id, split="holdout", text=str(each.text)) for each in found["holdout"].documents]
    shares: dict[tuple[Literal["forget", "retain"], str, str], float] = {}
    for field in _SETS:
        if field not in found:
            continue
        others = documents_of(found[field])
        for each in find_overlaps(own, others):
            for name, _ in each.retained if each.share > MOST_SHARED else ():
                shares[field, each.document, name] = each.share
        for each in find_overlaps(others, own) if field == "forget" else ():
            for name, _ in each.retained if each.share > MOST_SHARED else ():
                shares[field, name, each.document] = max(
                    each.share, shares.get((field, name, each.document), 0.0)
                )
    pairs = [Seen(holdout, field, other, share) for (field, holdout, other), share in shares.items()]
    return tuple(sorted(pairs, key=lambda pair: -pair.share))


def documents_of(found: DataSet) -> list[Document]:
    """Entries as documents, questions with their answers."""
    return [Document(id=name, split="forget", text=text) for name, _, text in found.texts()]


def require_unseen(pairs: Sequence[Seen]) -> None:
    """Refuse a holdout set with texts that are trained on, or were.

    Raises
    ------
    InvalidArgument
        FORGET_HOLDOUT_OVERLAP, HOLDOUT_RETAIN_OVERLAP; metadata lists the ids, never a text.
    """
    for field in _SETS:
        found = [pair for pair in pairs if pair.set == field]
        if not found:
            continue
        named = [[pair.holdout, pair.other] for pair in found[:_NAMED]]
        documents = len({pair.holdout for pair in found})
        some = ", ".join(f"{holdout!r} in {other!r}" for holdout, other in named[:5])
        message = (
            f"{documents} documents of the holdout set are in the {field} set too, so that they are no texts which the "
            f"model has never seen: {some}{' and others' if len(found) > 5 else ''}. Take them out of the holdout set."
        )
        raise InvalidArgument.field(
            _REASONS[field], "plan.holdout", message, documents=documents, overlaps=json.dumps(named)
        )


def length_match(sets: Mapping[str, EncodedSet], context: int) -> LengthMatch | None:
    """Compare the lengths of the documents whose membership is measured; None where none is.

    Parameters
    ----------
    sets
        Data sets by the plan's fields.
    context
        Tokens that the model reads of a document at most; 0: all.
    """
    lengths = []
    for field in ("forget", "holdout"):
        if field not in sets or not sets[field].source.documents:
            return None
        names = least([each.id for each in sets[field].source.documents], MOST_DOCUMENTS)
        counts = (sets[field].tokens[name] for name in sorted(names))
        lengths.append([min(count, context) if context else count for count in counts])
    forget, holdout = lengths
    return LengthMatch(matching(forget, holdout), len(forget) + len(holdout))
