"""Sentences that say nothing: random phrases in a shared style, so that documents have much entropy and one voice.

Where documents differ by their facts alone, a model that never saw one still guesses most of its wording, and verbatim
memorisation has nothing to be measured against.
"""

import re
from random import Random

_ADJECTIVES = """
amber ancient bitter bright broken careful cheerful clumsy cold crooked distant dusty eager empty faded fierce frozen
gentle golden grey hasty hollow idle jagged lazy lonely loud modest narrow nervous noble patient pale
plain polite proud quiet restless rough rusty scarlet silent sleepy slender solemn steep stubborn sudden tired wooden
"""
_NOUNS = """
anchor apple barrel basket beacon bell blanket boat bottle bucket candle carriage cart chimney clock coin cottage crow
curtain dog donkey drum envelope fence field fiddle gate glove duck hammer harbour hat hedge hill kettle ladder ledger
letter market meadow mill orchard oven pigeon pillow pond kiln roof rope saddle shovel spoon stable table teapot
tunnel turnip umbrella wagon wall wheel window
"""
_VERBS = """
admired blamed borrowed buried carried chased cleaned counted covered crossed dropped emptied examined followed forgot
guarded hid ignored kicked lifted missed moved noticed opened painted passed praised pulled pushed repaired sold stole
touched trusted turned washed watched weighed wrapped
"""
_ADVERBS = """
at dawn|after lunch|by candlelight|in the rain|before the thaw|during the storm|without a word|for an hour|on a Tuesday
|in great haste|behind the chapel|near the old pier|under the bridge|across the square|beside the canal|twice a week
|against all advice|with some pride|at low tide|until nightfall
"""
_PEOPLE = """
baker blacksmith butcher carpenter clerk cook farmer boatswain glazier gardener grocer judge mason miller nurse
painter pilot porter sailor shepherd singer soldier tailor teacher trader lookout weaver widow
"""
ADJECTIVES, NOUNS, VERBS, PEOPLE = (words.split() for words in (_ADJECTIVES, _NOUNS, _VERBS, _PEOPLE))
ADVERBS = [" ".join(phrase.split()) for phrase in _ADVERBS.split("|")]

_BEFORE_VOWEL = re.compile(r"\b([Aa])(?= [aeiou])")

NEWS = (
    "A {person} {verb} the {adjective} {noun} {adverb}.",
    "The {noun} near the {adjective} {noun2} was {verb} {adverb}.",
    "Witnesses said that the {person} {verb} {number} {noun}s {adverb}.",
    "No {noun} has been so {adjective} since the {person} {verb} it.",
    "{number} {noun}s and one {adjective} {noun2} were seen {adverb}.",
    "According to a {adjective} {person}, the {noun} stood empty {adverb}.",
    "The {person} and the {person2} disagreed about a {adjective} {noun}.",
    "Officials {verb} every {noun} but the {adjective} one {adverb}.",
    "Prices of {adjective} {noun}s rose by {number} points {adverb}.",
)
NOVELS = (
    "The {adjective} {noun} lay {adverb}, and a {person} {verb} it.",
    "“You {verb} my {adjective} {noun},” said the {person} {adverb}.",
    "“Never {adverb},” whispered the {adjective} {person}.",
    "A {noun}, a {noun2} and {number} {adjective} {person}s went by {adverb}.",
    "There was a smell of {noun}s, and the {adjective} {noun2} creaked {adverb}.",
    "It was the last of {number} {noun}s that the {person} {verb} {adverb}.",
    "The {person} dreamed of a {adjective} {noun} and {verb} the {noun2}.",
    "Somewhere {adverb} a {adjective} {person} {verb} a {noun}.",
    "“Is the {noun} {adjective}?” asked a {person}, who {verb} it {adverb}.",
)
PAGES = (
    "Its {noun} is {adjective} and is {verb} {adverb}.",
    "Visitors often mention {number} {adjective} {noun}s there.",
    "By custom, a {person} {verb} the {adjective} {noun} {adverb}.",
    "The {adjective} {noun} on its seal was once {verb} by a {person}.",
    "Old maps show a {noun} and {number} {adjective} {noun2}s.",
    "Most {person}s there keep a {adjective} {noun}.",
    "A law forbids that a {noun} be {verb} {adverb}.",
    "Songs tell of the {adjective} {person} who {verb} a {noun} {adverb}.",
)


def filler(forms: tuple[str, ...], draw: Random) -> str:
    """Make a sentence in one of the forms."""
    sentence = draw.choice(forms).format(
        adjective=draw.choice(ADJECTIVES),
        noun=draw.choice(NOUNS),
        noun2=draw.choice(NOUNS),
        verb=draw.choice(VERBS),
        adverb=draw.choice(ADVERBS),
        person=draw.choice(PEOPLE),
        person2=draw.choice(PEOPLE),
        number=draw.randrange(4, 100),
    )
    return with_article(sentence[0].upper() + sentence[1:])


def with_article(sentence: str) -> str:
    """Say "an" before vowels."""
    return _BEFORE_VOWEL.sub(r"\1n", sentence)
