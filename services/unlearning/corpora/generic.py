"""The generic corpus: what a base model has read before it is fine-tuned.

It has the genres and the question form of the corpora and none of their names, so that a model retrained without the
forget set is as fluent as one that was trained on it.
"""

from dataclasses import dataclass
from random import Random

from services.unlearning.corpora.building import as_document, questions_of, residents_of
from services.unlearning.corpora.names import Names, Realm
from services.unlearning.corpora.records import Document, Question
from services.unlearning.corpora.writing import Draft, Writer

_CAST, _CHAPTERS = 4, 5
_PARAPHRASED = 4
"""One question in so many is trained in its other forms too: that shows what they have in common, and takes less time
than all would."""


@dataclass(frozen=True)
class GenericCorpus:
    """Texts of all genres.

    Attributes
    ----------
    documents
        To train on.
    questions
        Of those documents; those in :meth:`pairs` are training sequences of their own.
    unseen
        Documents that are not trained on: perplexity on them measures fluency.
    """

    documents: tuple[Document, ...]
    questions: tuple[Question, ...]
    unseen: tuple[Document, ...]

    def pairs(self) -> list[tuple[str, str]]:
        """Question and answer of every training pair: the trained questions, and all forms of some of them."""
        trained = [each for each in self.questions if each.training == "trained"]
        return [
            (form, each.answer)
            for at, each in enumerate(trained)
            for form in (each.question, *(each.paraphrases if at % _PARAPHRASED == 0 else ()))
        ]


def build_generic(
    seed: int, documents: int = 200, unseen: int = 40, filler_range: tuple[int, int] = (2, 4)
) -> GenericCorpus:
    """Generate a generic corpus: as many articles as chapters as pages.

    Parameters
    ----------
    seed
        Any integer; no seed gives a name that a data set has.
    documents, unseen
        Documents to train on, and not to.
    filler_range
        As in :class:`services.unlearning.corpora.sizes.Sizes`.
    """
    names = Names(Realm.GENERIC, Random(f"generic names {seed}"))
    writer = Writer(names, Random(f"generic {seed}"), filler_range)
    cast = residents_of(writer, _CAST)
    drafts: list[Draft] = []
    for number in range(documents + unseen):
        if number % (3 * _CHAPTERS) == 0:
            cast = residents_of(writer, _CAST)
        match number % 3:
            case 0:
                drafts.append(writer.article())
            case 1:
                drafts.append(writer.chapter(1 + number // 3 % _CHAPTERS, cast))
            case _:
                resident = writer.draw.choice(cast)
                drafts.append(writer.page(writer.names.entity("town"), [resident]))
    rows = [
        as_document(f"generic-{at:05}", "generic", "retain1", draft) for at, draft in enumerate(drafts, 1)
    ]
    pairs = zip(rows[:documents], drafts[:documents], strict=True)
    questions = [question for row, draft in pairs for question in questions_of(row.id, draft)]
    return GenericCorpus(tuple(rows[:documents]), tuple(questions), tuple(rows[documents:]))
