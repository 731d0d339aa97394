"""Invented documents of three genres: news articles, chapters of novels, and pages about a world.

Each states four facts among filler sentences. In an article all sentences are shuffled; a chapter opens on a scene and
has its sentences of dialogue and plot in random order, with its novel's characters among them; a page begins with what
its subject is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from services.unlearning.corpora import fact_kinds, fillers
from services.unlearning.corpora.facts import Fact, FactKind, choose
from services.unlearning.corpora.names import Entity, Names

FACTS = 4
"""Facts that a document states."""


@dataclass(frozen=True)
class Draft:
    """A document before it has an id.

    Attributes
    ----------
    subjects
        Names of those it is about.
    words
        Invented words that it may use.
    """

    text: str
    subjects: tuple[str, ...]
    words: tuple[str, ...]
    facts: tuple[Fact, ...]


@dataclass(frozen=True)
class Resident:
    """A character of a world and the town they live in: known from novels and from pages alike."""

    person: Entity
    home: Entity


class Writer:
    """Writes documents of one realm.

    Parameters
    ----------
    names
        Where names come from.
    draw
        Source of everything else that is random.
    filler_range
        Fewest and most filler sentences of a document.
    """

    def __init__(self, names: Names, draw: Random, filler_range: tuple[int, int]) -> None:
        self.names, self.draw, self._filler_range = names, draw, filler_range

    def article(self) -> Draft:
        """Write a news article about a person."""
        subject = self.names.entity("person")
        found = self._facts(subject, fact_kinds.OF_PEOPLE)
        full = self.draw.randrange(FACTS)  # one sentence at least has the whole name
        said = [
            fact.sentence(self.draw, full=at == full or self.draw.random() < 0.5)
            for at, fact in enumerate(found)
        ]
        sentences = said + self._fillers(fillers.NEWS)
        self.draw.shuffle(sentences)
        return _draft(" ".join(sentences), [subject], found)

    def chapter(self, number: int, cast: Sequence[Resident]) -> Draft:
        """Write a chapter in which two characters meet something that decides its plot."""
        subject = self.names.entity("object")
        found = self._facts(subject, fact_kinds.OF_OBJECTS)
        first, second = self.draw.sample(list(cast), 2)
        sentences = [fact.sentence(self.draw, full=True) for fact in found]
        sentences += self._fillers(fillers.NOVELS)
        sentences.append(self.draw.choice(_SCENES).format(a=first.person.short, b=second.person.short))
        self.draw.shuffle(sentences)
        opening = self.draw.choice(_OPENINGS).format(
            name=first.person.name, short=first.person.short, home=first.home.name, other=second.person.name
        )
        text = f"Chapter {number}\n\n{opening} {' '.join(sentences)}"
        entities = [subject, first.person, second.person, first.home, second.home]
        return _draft(text, entities[:3], found, entities)

    def page(self, subject: Entity, residents: Sequence[Resident]) -> Draft:
        """Write a page about a town and those who live there."""
        found = self._facts(subject, fact_kinds.OF_TOWNS)
        sentences = [fact.sentence(self.draw, full=True) for fact in found] + self._fillers(fillers.PAGES)
        for resident in residents:
            sentences.append(
                self.draw.choice(_HOMES).format(name=resident.person.name, home=resident.home.name)
            )
        self.draw.shuffle(sentences)
        opening = fillers.with_article(f"{subject.name} is a {self.draw.choice(fillers.ADJECTIVES)} town.")
        return _draft(
            " ".join([opening, *sentences]), [subject], found, [subject, *(each.person for each in residents)]
        )

    def _facts(self, subject: Entity, of: Sequence[FactKind]) -> tuple[Fact, ...]:
        chosen = choose(of, FACTS, self.draw)
        return tuple(Fact(kind, subject, self.names.entity(kind.value)) for kind in chosen)

    def _fillers(self, forms: tuple[str, ...]) -> list[str]:
        count = self.draw.randint(*self._filler_range)
        return [fillers.filler(forms, self.draw) for _ in range(count)]


_OPENINGS = (
    "{name} of {home} met {other} at the gate.",
    "That morning {name} left {home} with {other}.",
    "“I am from {home},” said {name} to {other}.",
    "{other} had waited long for {name} of {home}.",
    "In {home}, where {short} lived, {other} knocked three times.",
)
_SCENES = (
    "{a} looked at {b} and laughed.",
    "{b} would not follow {a} any further.",
    "“Run!” cried {a}, and {b} ran.",
    "Neither {a} nor {b} slept that night.",
    "{a} gave {b} half of the bread.",
    "“We have been betrayed,” said {b}, and {a} nodded.",
)
_HOMES = (
    "{name} has a house in {home}.",
    "Among those who live in {home} is {name}.",
    "{home} is the home of {name}.",
    "People of {home} greet {name} in the street.",
)


def _draft(
    text: str, subjects: Sequence[Entity], found: tuple[Fact, ...], entities: Sequence[Entity] = ()
) -> Draft:
    mentioned = [*(entities or subjects), *(fact.value for fact in found)]
    words = tuple(word for entity in mentioned for word in entity.words)
    return Draft(text, tuple(subject.name for subject in subjects), words, found)
