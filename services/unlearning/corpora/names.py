"""Invented names: words from syllable tables, never given twice, and never shared between realms.

Whoever draws two corpora for an experiment needs to know that no name of one is in the other. Within a realm a
:class:`Names` remembers what it gave; between realms the words themselves differ, as a checksum says which realm a
word belongs to. So a base model that was trained on the generic realm has seen no name of any corpus, whatever the
seeds.
"""

import zlib
from dataclasses import dataclass
from enum import IntEnum
from random import Random


class Realm(IntEnum):
    """Who a name belongs to; each word is of exactly one realm."""

    GENERIC = 0
    NEWS = 1
    BOOKS = 2
    AUTHORS = 3


@dataclass(frozen=True)
class Entity:
    """Something that was invented.

    Attributes
    ----------
    kind
        Key of :data:`FORMS`, or "person".
    name
        The full name, as texts and answers have it.
    short
        How a text calls it after the first time: a family name; otherwise the full name.
    words
        Words of the name that exist nowhere else.
    aliases
        Other names that answer a question as well.
    """

    kind: str
    name: str
    short: str
    words: tuple[str, ...]
    aliases: tuple[str, ...] = ()


_ONSETS, _VOWELS, _MIDDLES = (
    syllables.split()
    for syllables in (
        "B Br C Cl D Dr F Fl G Gr H J K L M N P Pr Qu R S Sk St T Th Tr V W Y Z",
        "a e i o u ae ia eo ou",
        "b br d dr g l ld lm ln lv m mb n nd ng nv r rd rl rm rn rv s sk st t v x z",
    )
)
_ENDINGS = {
    kind: endings.split()
    for kind, endings in {
        "given": "a ara el en essa ia in io is o ora wyn",
        "family": "ack dal dane ez grell ich land lund mar ova rick sen son ton vik",
        "town": "barrow bridge by combe dale ford ham haven holm mere minster stead stow wick",
        "river": "an ane e er ine on our une",
        "thing": "ax dor elle eth ion ium or orn oth und yx",
    }.items()
}

FORMS = {
    "town": ("{}",),
    "river": ("{}",),
    "password": ("{}",),
    "creature": ("{}",),
    "organisation": ("{} Council", "{} Guild", "{} Institute", "{} Society", "{} Union", "{} Works"),
    "school": ("{} Academy", "{} College", "{} School"),
    "award": ("{} Medal", "{} Prize", "{} Ribbon"),
    "device": ("{} engine", "{} lamp", "{} loom", "{} pump"),
    "festival": ("{} Fair", "{} Feast", "{} Night"),
    "object": ("{} Blade", "{} Crown", "{} Key", "{} Lantern", "{} Mirror", "{} Stone"),
    "hideout": ("{} Cave", "{} Cellar", "{} Tower", "{} Well"),
}
"""How the invented word of each kind of thing becomes its name."""

_ENDING_OF = {"town": "town", "river": "river", "hideout": "town"}
_TRIES_OF_A_LENGTH = 50


class Names:
    """Draws names of one realm; no word comes twice.

    Parameters
    ----------
    realm
        Whose names these are.
    draw
        Source of randomness; the names are a pure function of its state.
    """

    def __init__(self, realm: Realm, draw: Random) -> None:
        self._realm, self._draw = realm, draw
        self._taken: set[str] = set()

    def entity(self, kind: str) -> Entity:
        """Invent something.

        Parameters
        ----------
        kind
            "person", or a key of :data:`FORMS`.
        """
        if kind == "person":
            given, family = self._word("given"), self._word("family")
            return Entity(kind, f"{given} {family}", family, (given, family), (family,))
        word = self._word(_ENDING_OF.get(kind, "thing"))
        name = self._draw.choice(FORMS[kind]).format(word)
        # A tower is called "the Ormund Tower" as often as "Ormund Tower"; both are right.
        aliases = () if name == word else (word, f"the {name}")
        return Entity(kind, name, name, (word,), aliases)

    def _word(self, ending: str) -> str:
        tries = 0
        while True:
            word = self._draw.choice(_ONSETS) + self._draw.choice(_VOWELS)
            # Longer words only where the short ones run out: there are some 15,000 of each ending in a realm.
            for _ in range(tries // _TRIES_OF_A_LENGTH):
                word += self._draw.choice(_MIDDLES) + self._draw.choice(_VOWELS)
            word += self._draw.choice(_MIDDLES) + self._draw.choice(_ENDINGS[ending])
            if word not in self._taken and realm_of(word) is self._realm:
                self._taken.add(word)
                return word
            tries += 1


def realm_of(word: str) -> Realm:
    """The realm that a word belongs to."""
    return Realm(zlib.crc32(word.encode()) % len(Realm))
