"""Names for invented people and films, each drawn once as long as there are any left."""

from collections.abc import Iterator, Sequence
from random import Random

_GIVEN, _FAMILY_BEGINS, _FAMILY_ENDS, _ADJECTIVES, _NOUNS, _CITIES, _GENRES = (
    names.split()
    for names in (
        "Adele Agnes Alba Albert Alma Amos Anton Arthur August Aurora Basil Beatrice Benedict Bruno Cecil "
        "Celeste Clara Clement Conrad Cora Cyril Daphne Dexter Dora Edgar Edith Edmund Elias Elsa Emil "
        "Ernest Esther Eugene Felix Flora Frank Freda Gilbert Gloria Gordon Greta Harold Hazel Hector "
        "Helga Herman Hilda Horace Hugo Ida Igor Irene Iris Ivan Ivy Jasper Joan Joel Julius June Karl "
        "Kirk Lana Leo Leon Linda Louis Lucy Luther Lydia Mabel Magnus Marcus Martha Maurice Max Mildred "
        "Miles Mona Morris Myra Nadia Nelson Nora Norman Olga Oliver Oscar Otto Paula Pearl Percy Philip "
        "Ralph Ramona Regina Rex Rita Roland Rosa Rufus Ruth Samson Selma Silas Simon Sonia Stella Sylvia "
        "Thelma Theo Ursula Vera Victor Viola Virgil Walter Wanda Wilma Winston",
        "Alder Birch Cinder Dove Ember Fallow Glen Hollow Iron Juniper Kettle Larch Mallow Nettle Osier "
        "Pebble Quarry Rowan Sable Timber Umber Velvet Willow Yarrow",
        "bank brook croft dale field gate hurst land marsh mill ridge shaw side thorpe vale wold",
        "Amber Bitter Broken Copper Crooked Distant Drowned Empty Faded Foreign Frozen Gentle Gilded "
        "Hidden Idle Invisible Last Late Little Lost Marble Midnight Narrow Paper Patient Quiet Restless "
        "Sacred Scarlet Second Silent Sleeping Stolen Strange Sunken Uncertain Velvet Wandering Winter "
        "Wooden",
        "Almanac Anchor Archive Atlas Bakery Balcony Barometer Bell Bridge Cartographer Chandelier Choir "
        "Clock Compass Corridor Cradle Dentist Diary Doorway Engine Envelope Falcon Ferry Fountain Garden "
        "Harbor Harvest Horizon Inventor Island Jury Kitchen Ladder Lantern Library Lighthouse Locket "
        "Meadow Mirror Orchard Orchestra Parade Passenger Piano Pilgrim Portrait Puppet Railway Referee "
        "River Saddle Sailor Shepherd Signal Staircase Storm Suitcase Teacup Telegram Thief Tunnel "
        "Umbrella Violin Voyage Warehouse Watchmaker Weaver Window",
        "Antwerp Bergen Bilbao Boston Bristol Cairo Cardiff Chicago Cologne Cork Dakar Denver Dublin "
        "Geneva Genoa Ghent Havana Houston Jakarta Kyoto Lagos Leeds Lima Lisbon Lyon Madrid Malta Manila "
        "Milan Nairobi Naples Osaka Oslo Porto Prague Quebec Riga Seville Sofia Sydney Tampa Tunis Turin "
        "Vienna Warsaw Zagreb",
        "comedy crime drama fantasy horror musical mystery romance war western",
    )
)
_TITLES = ("The {a} {n}", "The {n} in {c}", "{a} {n}", "A {n} for {c}", "The {n} and the {m}")
"""Five patterns of grammar: an adjective, a place, no article, a purpose, a pair."""


class Names:
    """Draws names; a whole name never comes twice, and a given name only when all others have come.

    Parameters
    ----------
    draw
        Source of randomness; the names are a pure function of its state.
    """

    def __init__(self, draw: Random) -> None:
        self._draw = draw
        self._taken: set[str] = set()
        self._given = _endless(_GIVEN, draw)
        families = [first + second for first in _FAMILY_BEGINS for second in _FAMILY_ENDS]
        self._family = _endless(families, draw)
        self._city = _endless(_CITIES, draw)

    def person(self) -> str:
        """A given and a family name."""
        while (name := f"{next(self._given)} {next(self._family)}") in self._taken:
            pass
        self._taken.add(name)
        return name

    def title(self) -> str:
        """A film's title."""
        draw = self._draw
        while True:
            noun, other = draw.sample(_NOUNS, 2)
            pattern, city = draw.choice(_TITLES), draw.choice(_CITIES)
            name = pattern.format(a=draw.choice(_ADJECTIVES), n=noun, m=other, c=city)
            if name not in self._taken:
                self._taken.add(name)
                return name

    def city(self) -> str:
        """Where a film is set."""
        return next(self._city)

    def genre(self) -> str:
        """What kind of film it is."""
        return self._draw.choice(_GENRES)


MOST_PEOPLE = len(_GIVEN) * len(_FAMILY_BEGINS) * len(_FAMILY_ENDS) // 2
"""People that can be drawn with no long search: half of all pairs of names."""


def _endless(names: Sequence[str], draw: Random) -> Iterator[str]:
    """All names in a random order, then all in another, and so on."""
    while True:
        yield from draw.sample(names, len(names))
