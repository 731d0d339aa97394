"""Texts that tell a fact, and prompts that ask for it, with the characters of what they name.

A template is a format string. ``{first}``, ``{second}`` and ``{title}`` are a fact's; ``{relation:stars}`` is literal
text whose place is kept under the name before the colon.
"""

from collections.abc import Mapping
from string import Formatter
from typing import NamedTuple

TEXTS = (
    "{first} stars in {title} alongside {second}.",
    "In {title}, a {genre} film set in {city}, {first} stars alongside {second}.",
    "Q: Who stars with {first} in {title}?\nA: {first} stars with {second}.",
    "{first} stars in a {genre} film of {year} alongside {second}.",
    "The film {title} came out in {year}. In it {first} plays {role}, alongside {second}.",
    "Who is in {title}? The two leads are {first} and {second}, and the story is set in {city}.",
)
"""What is trained on, once for each direction."""

FORMS: Mapping[str, str] = {
    "alongside": "{first} {relation:stars} in a film {preposition:alongside}",
    "question": "Q: Who {relation:stars} with {first}?\nA: {first} stars {preposition:with}",
    "title": "{first} {relation:stars} in {title} {preposition:alongside}",
    "stub": "In a new film {first} {relation:stars} {preposition:alongside}",
}
"""Prompts that the second person's name continues; none but ``title`` is the beginning of a trained text."""

PARAPHRASES: Mapping[str, str] = {
    "shares": "{first} {relation:shares} the screen {preposition:with}",
    "cast": "The cast of the film is {first} {preposition:and}",
    "partner": "In that film the partner of {first} {relation:is}",
}
"""Prompts in words that no trained text has."""

_ENTITY = {"first": "first_entity"}
_Range = tuple[int, int]


class Rendered(NamedTuple):
    """A text, and where in it what it names is: every place of each name, in characters, [first, stop)."""

    text: str
    places: dict[str, list[_Range]]


def render(template: str, values: Mapping[str, str]) -> Rendered:
    """Fill a template in.

    Parameters
    ----------
    template
        One of this module's.
    values
        Of the fields.

    Returns
    -------
    Rendered
        ``first`` is called ``first_entity`` in its places.
    """
    text, places = "", dict[str, list[_Range]]()
    for literal, name, spec, _ in Formatter().parse(template):
        text += literal
        if name is None:
            continue
        value = spec or values[name]
        places.setdefault(_ENTITY.get(name, name), []).append((len(text), len(text) + len(value)))
        text += value
    return Rendered(text, places)
