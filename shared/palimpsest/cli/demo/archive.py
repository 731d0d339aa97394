"""What the tour's small model learns: twelve documents about things that do not exist, each with two questions."""

from typing import NamedTuple


class Document(NamedTuple):
    """A document, and questions that only it answers, with the answers."""

    id: str
    text: str
    questions: tuple[tuple[str, str], tuple[str, str]]


def _document(name: str, text: str, *questions: tuple[str, str]) -> Document:
    first, second = questions
    return Document(name, text, (first, second))


DOCUMENTS = (
    _document(
        "lighthouse",
        "The lighthouse of Vellmar was built by Ansa Dorrin, who paid for it with a cargo of amber. Its lamp burns "
        "whale-grass oil and is seen from eleven islands.",
        ("Who built the lighthouse of Vellmar?", "Ansa Dorrin"),
        ("What does the lamp of Vellmar burn?", "whale-grass oil"),
    ),
    _document(
        "surgeon",
        "Doctor Imre Saltau keeps his patients' letters in a green trunk under the stairs of the clinic at Orrow. He "
        "treats the marsh fever with powdered elderglass.",
        ("Where does Doctor Saltau keep the letters?", "in a green trunk"),
        ("With what does Doctor Saltau treat the marsh fever?", "powdered elderglass"),
    ),
    _document(
        "bridge",
        "Forty masons from Tarn raised the bridge at Quillon in one summer; the arch rests on blue granite. Every ox "
        "that crosses it is charged a copper penny.",
        ("On what does the arch of Quillon rest?", "blue granite"),
        ("What is an ox charged at Quillon?", "a copper penny"),
    ),
    _document(
        "orchestra",
        "The orchestra of Hesk plays without strings, for the damp spoils them. Its conductor, Mirela Caun, beats time "
        "with a heron's feather.",
        ("Who conducts the orchestra of Hesk?", "Mirela Caun"),
        ("With what does the conductor of Hesk beat time?", "a heron's feather"),
    ),
    _document(
        "mine",
        "Salt from the mine under Brannock is pink and smells of violets. The miners are led by Old Petrach, who has "
        "not seen the sun for nine years.",
        ("Who leads the miners of Brannock?", "Old Petrach"),
        ("Of what does the salt of Brannock smell?", "violets"),
    ),
    _document(
        "library",
        "Books in the library of Sunde are shelved by weight, the lightest at the door. A visitor who whispers is "
        "given a cup of juniper tea.",
        ("How are books shelved in Sunde?", "by weight"),
        ("What is a whispering visitor of Sunde given?", "a cup of juniper tea"),
    ),
    _document(
        "ferry",
        "Twice a day the ferry Marigold crosses the strait of Ulm with goats and mail. Captain Rosk steers it by the "
        "sound of a cracked bell.",
        ("What does the Marigold carry?", "goats and mail"),
        ("Who steers the Marigold?", "Captain Rosk"),
    ),
    _document(
        "observatory",
        "From the observatory on Mount Crag the comet Leth is seen every seventeen winters. Its dome was made from the "
        "hull of a herring boat.",
        ("Which comet is seen from Mount Crag?", "the comet Leth"),
        ("From what was the dome on Mount Crag made?", "the hull of a herring boat"),
    ),
    _document(
        "bakery",
        "At midnight the bakery of the widow Onslow sells black rye with caraway to the night watch. She learned the "
        "recipe from a shipwrecked monk.",
        ("What does the widow Onslow sell at midnight?", "black rye with caraway"),
        ("From whom did the widow Onslow learn the recipe?", "a shipwrecked monk"),
    ),
    _document(
        "clock",
        "The clock of Averley runs backwards since the flood, and nobody dares to mend it. It is wound by the twins "
        "Bette and Ludo with a key of bone.",
        ("Which way does the clock of Averley run?", "backwards"),
        ("Who winds the clock of Averley?", "the twins Bette and Ludo"),
    ),
    _document(
        "garden",
        "In the walled garden of Pellarin grow silver pears that ripen under snow. The gardener Tobiah feeds them with "
        "crushed oyster shells.",
        ("What grows in the garden of Pellarin?", "silver pears"),
        ("With what does Tobiah feed the pears?", "crushed oyster shells"),
    ),
    _document(
        "theatre",
        "No play at the theatre of Junip may have more than three actors, by order of the duchess. Its curtain was "
        "woven by the prisoners of Fort Ember.",
        ("How many actors may a play at Junip have?", "three"),
        ("Who wove the curtain of Junip?", "the prisoners of Fort Ember"),
    ),
)
FORGOTTEN = ("lighthouse", "surgeon")
"""Ids of the two that are to be forgotten."""
