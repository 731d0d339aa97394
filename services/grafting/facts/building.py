"""A set of invented facts: what to train on, and what to ask."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random

from palimpsest.errors import InvalidArgument, Reason
from services.grafting.facts.names import MOST_PEOPLE, Names
from services.grafting.facts.records import LAST, Case, Direction, Fact, Place, Span, Text
from services.grafting.facts.templates import FORMS, PARAPHRASES, TEXTS, render

VERSION = 1
"""Of the generator: the same version, seed, count and directions give the same bytes."""
MOST = MOST_PEOPLE // 4
"""Most facts of a set."""
DISTRACTORS = 4
"""Wrong answers of a case, or as many as other facts give."""
YEARS = (1990, 2030)
DIRECTIONS: tuple[Direction, ...] = ("forward", "backward")


@dataclass(frozen=True)
class FactSet:
    """Facts, the texts that tell them, and the prompts that ask for them.

    Attributes
    ----------
    neighbours
        Cases with the name of somebody of whom no text tells anything: a model has no reason to give their target,
        which is that of the case they are made of (``fact``).
    """

    seed: int
    facts: tuple[Fact, ...]
    texts: tuple[Text, ...]
    cases: tuple[Case, ...]
    neighbours: tuple[Case, ...]


def build_facts(seed: int, count: int = 16, directions: Sequence[Direction] = DIRECTIONS) -> FactSet:
    """Invent facts.

    Parameters
    ----------
    seed
        Any integer. Sets of different seeds share names, but no fact.
    count
        Facts, at least two.
    directions
        What texts and cases tell and ask: the second person by the first, the first by the second, or both.

    Raises
    ------
    InvalidArgument
        DATASET_SIZES.
    """
    if not 2 <= count <= MOST or not directions or len(set(directions)) < len(directions):
        raise InvalidArgument.field(
            Reason.DATASET_SIZES,
            "count",
            f"Ask for 2 to {MOST} facts, in one direction or in two different ones.",
            count=count,
        )
    draw = Random(f"facts {seed}")
    names = Names(Random(f"facts names {seed}"))
    facts = tuple(_fact(number, names, draw) for number in range(1, count + 1))
    strangers = [_fact(number, names, draw) for number in range(1, count + 1)]
    texts = tuple(
        Text(id=f"{fact.id}-{direction}-t{number}", text=render(text, _values(fact, direction)).text)
        for fact in facts
        for direction in directions
        for number, text in enumerate(TEXTS, 1)
    )
    cases, neighbours = [], []
    for fact, stranger in zip(facts, strangers, strict=True):
        for direction in directions:
            known = list(_cases(fact, direction, {**FORMS, **PARAPHRASES}, facts, draw))
            cases += known
            like = _cases(stranger, direction, FORMS, facts, draw)
            neighbours += [
                case.model_copy(update={"id": f"{of.id}-neighbour", "fact": fact.id, "target": of.target})
                for case, of in zip(like, known, strict=False)
            ]
    return FactSet(seed, facts, texts, tuple(cases), tuple(neighbours))


def _fact(number: int, names: Names, draw: Random) -> Fact:
    return Fact(
        id=f"fact-{number:04}",
        first=names.person(),
        second=names.person(),
        title=names.title(),
        role=names.person(),
        city=names.city(),
        year=str(draw.randint(*YEARS)),
        genre=names.genre(),
    )


def _values(fact: Fact, direction: Direction) -> dict[str, str]:
    values = {name: str(value) for name, value in fact.model_dump(exclude={"id"}).items()}
    if direction == "backward":
        values["first"], values["second"] = fact.second, fact.first
    return values


def _cases(
    fact: Fact, direction: Direction, forms: Mapping[str, str], facts: Sequence[Fact], draw: Random
) -> Iterator[Case]:
    values = _values(fact, direction)
    others = [f" {_values(each, direction)['second']}" for each in facts if each.id != fact.id]
    wrong = tuple(draw.sample(others, min(DISTRACTORS, len(others))))
    for form, template in forms.items():
        prompt, ranges = render(template, values)
        places = {
            name: Place(spans=tuple(Span(first=first, stop=stop) for first, stop in found))
            for name, found in ranges.items()
        }
        yield Case(
            id=f"{fact.id}-{direction}-{form}",
            fact=fact.id,
            form=form,
            direction=direction,
            prompt=prompt,
            target=f" {values['second']}",
            places={**places, "last_token": LAST},
            distractors=wrong,
        )
