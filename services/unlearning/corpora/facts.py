"""What documents say of their subjects: the kinds of fact, each in several wordings, with its questions."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from services.unlearning.corpora.names import Entity


@dataclass(frozen=True)
class FactKind:
    """One kind of fact.

    Attributes
    ----------
    value
        Kind of the entity that answers the question.
    wordings
        Sentences with ``{subject}`` and ``{value}``.
    questions
        Forms with ``{subject}``: the first is what models are trained on, the others are its paraphrases.
    """

    value: str
    wordings: tuple[str, ...]
    questions: tuple[str, ...]


@dataclass(frozen=True)
class Fact:
    """A fact of a document: its value was invented for it alone, so that it can be known from nothing else."""

    kind: FactKind
    subject: Entity
    value: Entity

    def sentence(self, draw: Random, *, full: bool) -> str:
        """State it in one of its wordings, with the subject's full or short name."""
        subject = self.subject.name if full else self.subject.short
        return draw.choice(self.kind.wordings).format(subject=subject, value=self.value.name)

    @property
    def questions(self) -> tuple[str, ...]:
        """The question, and its paraphrases."""
        return tuple(form.format(subject=self.subject.name) for form in self.kind.questions)


def choose(kinds: Sequence[FactKind], count: int, draw: Random) -> list[FactKind]:
    """Choose different kinds, in random order."""
    return draw.sample(list(kinds), count)
