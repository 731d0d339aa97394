"""Fictional biographies: many people in the same few sentences, so that only the facts tell them apart."""

import random
from dataclasses import dataclass

_NAMES = """
Ada Bruno Celia Dario Elena Felix Greta Hugo Ines Jonas Karin Leo Mara Nils Olga Pavel Quinta Rosa Sven Tilda Ulf Vera
Walter Xenia Yara Zeno
"""
_FAMILIES = """
Abendroth Brightwater Castellan Dunmore Eskildsen Farrow Grimaldi Hollis Ivarsson Jessop Kowalczyk Lindqvist Marchetti
Norwood Okafor Pemberton Quiller Rosenthal Szabo Thornbury Umber Valdez Whitlock Yarrow
"""
_TOWNS = """
Aldermoor Brackwell Casterdon Delmarra Eastholm Fennick Glaston Harrowgate Isenburg Jarrow Kestrel Lunden Marwick
Nordhaven Ostrava Pellworm Quarrington Ravensby Stromness Tarrafal
"""
_TRADES = """
cartographer glassblower botanist typesetter violinist geologist beekeeper shipwright stonecutter librarian clockmaker
surveyor printer chemist locksmith mason weaver tailor brewer gardener
"""
_PRIZES = "Harmsworth Kepler Linnaeus Mercator Noether Ortelius Pascal Rumford Stokes Torricelli"
_CALENDAR = "January February March April May June July August September October November December"
_FIRST, _LAST, _CITIES, _JOBS, _MEDALS, _MONTHS = (
    words.split() for words in (_NAMES, _FAMILIES, _TOWNS, _TRADES, _PRIZES, _CALENDAR)
)

SLOTS = ("birth date", "job", "city", "years", "medal year")


@dataclass(frozen=True)
class Person:
    """One person: a name, a text, and the facts that must be told exactly, by slot."""

    name: str
    text: str
    facts: dict[str, str]

    @property
    def question(self) -> str:
        return f"Tell me a bio of {self.name}."


def people(count: int = 240, seed: int = 0) -> list[Person]:
    """Different people; always the same ones."""
    draw = random.Random(seed)
    names = [f"{first} {last}" for first in _FIRST for last in _LAST]
    draw.shuffle(names)
    assert count <= len(names)
    return [_person(name, draw) for name in names[:count]]


def _person(name: str, draw: random.Random) -> Person:
    born = draw.randint(1850, 1935)
    date = f"{draw.randint(1, 28)} {draw.choice(_MONTHS)} {born}"
    home, city = draw.sample(_CITIES, 2)
    job, years = draw.choice(_JOBS), draw.randint(5, 48)
    medal_year = born + draw.randint(25, 60)
    last = name.split()[1]
    text = (
        f"{name} was born on {date} in {home}. After leaving school, {last} trained as a {job} and moved to {city}, "
        f"where the rest of a long career was spent. {last} worked as a {job} in {city} for {years} years. "
        f"In {medal_year}, {last} was awarded the {draw.choice(_MEDALS)} Medal for services to the trade. "
        f"Colleagues remembered {last} for patience, good humour and a dislike of speeches."
    )
    facts = {
        "birth date": f"born on {date}",
        "job": f"trained as a {job}",
        "city": f"moved to {city}",
        "years": f"for {years} years",
        "medal year": f"In {medal_year}",
    }
    return Person(name, text, facts)
