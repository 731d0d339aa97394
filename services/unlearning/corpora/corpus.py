"""A data set in memory: documents by split, and what each split is asked."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args

from palimpsest.errors import InvalidArgument, Reason
from services.unlearning.corpora.records import Document, Excerpt, Question, Split, Verbatim

SPLITS: tuple[Split, ...] = get_args(Split)
ASKED: tuple[Split, ...] = ("forget", "retain1", "retain2", "icl")
"""Splits with knowledge questions."""
RECITED: tuple[Split, ...] = ("forget", "retain2")
"""Splits with verbatim prompts."""
TESTED: tuple[Split, ...] = ("forget", "holdout", "retain2")
"""Splits whose texts are tested for membership."""


@dataclass(frozen=True)
class Corpus:
    """Everything that a removal request is carried out and audited with.

    Attributes
    ----------
    documents
        Of all splits; ids are unique.
    questions, verbatim, excerpts
        By split: :data:`ASKED`, :data:`RECITED`, :data:`TESTED`. A split that is missing has none.
    folds
        Ids of the forget documents, cut into disjoint parts of whole works, in order; one part if the forget set is
        not cut.
    source
        Where it comes from: for a generated one its domain, version, seed and sizes.
    licence
        SPDX identifier, or a sentence.
    """

    documents: tuple[Document, ...]
    questions: Mapping[Split, tuple[Question, ...]]
    verbatim: Mapping[Split, tuple[Verbatim, ...]]
    excerpts: Mapping[Split, tuple[Excerpt, ...]]
    folds: tuple[tuple[str, ...], ...] = ()
    source: Mapping[str, Any] = field(default_factory=dict)
    licence: str = ""

    def __post_init__(self) -> None:
        for what, rows in self._collections():
            _require_unique(what, (row.id for row in rows))
        known = {document.id: document.split for document in self.documents}
        for split, rows in (*self.questions.items(), *self.verbatim.items()):
            for row in rows:
                if row.doc_id and known.get(row.doc_id) != split:
                    found = known.get(row.doc_id, "no split")
                    raise _invalid(
                        f"{row.id!r} of {split} is of document {row.doc_id!r}, which is of {found}."
                    )
        cut = [each for fold in self.folds for each in fold]
        _require_unique("the folds", cut)
        if self.folds and set(cut) != {each.id for each in self.split("forget")}:
            raise _invalid("The folds together are not the forget set.")

    def split(self, name: Split) -> tuple[Document, ...]:
        """Documents of a split, in order."""
        return tuple(document for document in self.documents if document.split == name)

    def trained(self, split: Split) -> tuple[Question, ...]:
        """Questions of a split that are training sequences of their own."""
        return tuple(each for each in self.questions.get(split, ()) if each.training == "trained")

    def disjoint(self, fold: int) -> tuple[Document, ...]:
        """Forget documents of one fold, 1 to ``len(folds)``: requests that come one after another (MUSE's C6)."""
        return self._forget(self.folds[fold - 1 : fold])

    def nested(self, folds: int) -> tuple[Document, ...]:
        """Forget documents of the first folds together: a request of one to four times the size (MUSE's C5)."""
        return self._forget(self.folds[:folds])

    def questions_of(self, documents: Iterable[Document]) -> tuple[Question, ...]:
        """Questions about documents of any split, in order."""
        wanted = {document.id for document in documents}
        return tuple(each for rows in self.questions.values() for each in rows if each.doc_id in wanted)

    def _forget(self, folds: Sequence[Sequence[str]]) -> tuple[Document, ...]:
        wanted = {each for fold in folds for each in fold}
        return tuple(document for document in self.split("forget") if document.id in wanted)

    def _collections(self) -> list[tuple[str, Sequence[Document | Question | Verbatim | Excerpt]]]:
        named: list[tuple[str, Sequence[Any]]] = [("the documents", self.documents)]
        for what, by_split in (
            ("questions", self.questions),
            ("verbatim prompts", self.verbatim),
            ("excerpts", self.excerpts),
        ):
            named += [(f"the {what} of {split}", rows) for split, rows in by_split.items()]
        return named


def _require_unique(what: str, ids: Iterable[str]) -> None:
    seen: set[str] = set()
    for each in ids:
        if each in seen:
            raise _invalid(f"The id {each[:100]!r} is twice in {what}.")
        seen.add(each)


def _invalid(problem: str) -> InvalidArgument:
    return InvalidArgument(Reason.DATASET_INVALID, f"The data set does not hold together. {problem}")
