"""How large a generated data set is."""

from dataclasses import dataclass

from palimpsest.errors import InvalidArgument, Reason


@dataclass(frozen=True)
class Sizes:
    """Documents of each split.

    Attributes
    ----------
    forget
        Documents to be removed; in books, chapters.
    retain1, retain2, holdout
        Regulariser, evaluation, and what no model sees.
    icl
        Examples before a question: one pair of each of these documents.
    folds
        Equal parts of the forget set, for requests that come in sequence or grow.
    filler_range
        Fewest and most filler sentences of a document. (2, 4) gives some 70 words, (8, 12) some 140.
    chapters
        Chapters of one novel. ``forget / folds`` and ``holdout`` must be multiples of it in books.
    """

    forget: int = 40
    retain1: int = 160
    retain2: int = 40
    holdout: int = 100
    icl: int = 10
    folds: int = 1
    filler_range: tuple[int, int] = (2, 4)
    chapters: int = 5

    def check(self, *, novels: bool) -> None:
        """Check that the splits can be made.

        Raises
        ------
        InvalidArgument
            DATASET_SIZES.
        """
        counts = {
            name: getattr(self, name)
            for name in ("forget", "retain1", "retain2", "holdout", "icl", "folds", "chapters")
        }
        if small := [name for name, count in counts.items() if count < 1]:
            raise _wrong(f"{small[0]} must be at least 1.")
        low, high = self.filler_range
        if not 0 <= low <= high:
            raise _wrong("filler_range must be two counts, the smaller one first.")
        if self.forget % self.folds:
            raise _wrong(f"{self.forget} forget documents do not make {self.folds} equal folds.")
        if novels and (self.forget // self.folds % self.chapters or self.holdout % self.chapters):
            raise _wrong(
                f"Novels have {self.chapters} chapters each, and a fold of {self.forget // self.folds} or "
                f"{self.holdout} holdout chapters is not a whole number of novels."
            )


TINY = Sizes()
"""For models of about a million parameters: minutes on one core."""
SMALL = Sizes(forget=160, retain1=640, retain2=160, holdout=200, folds=4)
"""For models of 5 to 20 million parameters."""
REAL = Sizes(forget=100, retain1=100, retain2=100, holdout=100, filler_range=(8, 12))
"""For real models of a hundred million parameters."""


def _wrong(problem: str) -> InvalidArgument:
    return InvalidArgument.field(Reason.DATASET_SIZES, "sizes", f"{problem} Choose other sizes.")
