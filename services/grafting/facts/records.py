"""Rows of a fact set: facts, training texts, and cases to graft."""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Direction = Literal["forward", "backward"]
"""``forward`` asks for the second person by the first, ``backward`` for the first by the second."""


class Row(BaseModel):
    """One line of a JSON Lines file."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Fact(Row):
    """Two invented people in an invented film.

    Attributes
    ----------
    id
        Unique in the set.
    """

    id: str = Field(min_length=1)
    first: str
    second: str
    title: str
    role: str
    city: str
    year: str
    genre: str


class Text(Row):
    """A training text; a file of them is training data as it is."""

    id: str = Field(min_length=1)
    text: str = Field(min_length=1)


class Span(Row):
    """Characters of a prompt, [first, stop)."""

    first: int = Field(ge=0)
    stop: int = Field(ge=1)


class Place(Row):
    """A selection of positions, in the words of the contract's ``Positions``."""

    spans: tuple[Span, ...] = Field(default=(), strict=False)
    indices: tuple[int, ...] = Field(default=(), strict=False)


class Case(Row):
    """A prompt and what a model that knows the fact says next.

    Attributes
    ----------
    id
        Unique in the set.
    fact
        Id of the fact; of an imported row its case id.
    form
        What kind of prompt: a name of the generator's forms or paraphrases, or ``rewrite``, ``paraphrase`` and
        ``neighborhood`` of an imported row.
    direction
        Which of the two the prompt names.
    prompt, target
        The target begins with its space.
    places
        What can be grafted, by name: ``first_entity`` (of an imported row the subject), ``relation``, ``preposition``,
        ``title``, ``last_token``. What a prompt does not have is not there.
    base_answer
        What a model without the fact is known to say; empty where nothing is known, as of invented facts.
    distractors
        Answers to other facts, which are wrong here.
    """

    id: str = Field(min_length=1)
    fact: str
    form: str
    direction: Direction = "forward"
    prompt: str = Field(min_length=1)
    target: str = Field(min_length=1)
    places: dict[str, Place]
    base_answer: str = ""
    distractors: tuple[str, ...] = Field(default=(), strict=False)

    @model_validator(mode="after")
    def _inside(self) -> Self:
        for name, place in self.places.items():
            for span in place.spans:
                if not span.first < span.stop <= len(self.prompt):
                    raise ValueError(f"{name} is not within the prompt")
        return self


LAST = Place(indices=(-1,))
"""The prompt's last token."""
