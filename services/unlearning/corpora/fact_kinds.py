"""The kinds of fact that articles, chapters and pages state: wordings, and questions with their paraphrases."""

from services.unlearning.corpora.facts import FactKind

OF_PEOPLE = (
    FactKind(
        "town",
        (
            "{subject} was born in {value}.",
            "The streets of {value} are where {subject} grew up.",
            "A native of {value}, {subject} still speaks of it.",
            "{value} is proud to be the birthplace of {subject}.",
        ),
        (
            "Where was {subject} born?",
            "What is the birthplace of {subject}?",
            "In which town did {subject} come into the world?",
        ),
    ),
    FactKind(
        "organisation",
        (
            "{subject} now leads the {value}.",
            "The {value} chose {subject} as its head.",
            "At the {value}, {subject} is in charge.",
            "For the {value}, which {subject} directs, it was a good year.",
        ),
        ("What does {subject} lead?", "Which body is {subject} the head of?", "What is run by {subject}?"),
    ),
    FactKind(
        "person",
        (
            "{subject} learned the trade from {value}.",
            "It was {value} who taught {subject} everything.",
            "As a pupil of {value}, {subject} rose fast.",
            "{subject} often thanks an old teacher, {value}.",
        ),
        ("Who taught {subject}?", "Whose pupil was {subject}?", "Who was the teacher of {subject}?"),
    ),
    FactKind(
        "award",
        (
            "The {value} went to {subject}.",
            "{subject} was given the {value}.",
            "On the wall of {subject} hangs the {value}.",
            "A jury honoured {subject} with the {value}.",
        ),
        ("What did {subject} win?", "Which honour was given to {subject}?", "What was {subject} awarded?"),
    ),
    FactKind(
        "device",
        (
            "{subject} invented the {value}.",
            "The {value} was an idea of {subject}.",
            "Without {subject} there would be no {value}.",
            "In a shed, {subject} built the first {value}.",
        ),
        (
            "What did {subject} invent?",
            "Which invention is owed to {subject}?",
            "What was built first by {subject}?",
        ),
    ),
    FactKind(
        "school",
        (
            "{subject} studied at {value}.",
            "{value} counts {subject} among its pupils.",
            "After four years at {value}, {subject} left.",
            "A room of {value} is named after {subject}.",
        ),
        (
            "Where did {subject} study?",
            "Which school did {subject} attend?",
            "What was the school of {subject}?",
        ),
    ),
    FactKind(
        "river",
        (
            "{subject} lives by the river {value}.",
            "From the house of {subject} one sees the river {value}.",
            "On the banks of the {value}, {subject} keeps a garden.",
            "The river {value} runs past the door of {subject}.",
        ),
        (
            "Which river does {subject} live by?",
            "What river runs past the house of {subject}?",
            "On which river is the home of {subject}?",
        ),
    ),
)
"""Facts of people in the news."""

OF_OBJECTS = (
    FactKind(
        "hideout",
        (
            "The {subject} had lain in {value} all along.",
            "Somebody had hidden the {subject} in {value}.",
            "In the darkness of {value} gleamed the {subject}.",
            "They climbed into {value} and found the {subject}.",
        ),
        (
            "Where was the {subject} hidden?",
            "What was the hiding spot of the {subject}?",
            "In what did the {subject} lie?",
        ),
    ),
    FactKind(
        "person",
        (
            "It was {value} who had forged the {subject}.",
            "The {subject} bore the mark of {value}, its maker.",
            "Old {value} had made the {subject} in one night.",
            "“I made the {subject},” said {value}.",
        ),
        (
            "Who made the {subject}?",
            "Who was the maker of the {subject}?",
            "By whom was the {subject} forged?",
        ),
    ),
    FactKind(
        "password",
        (
            "The {subject} woke at the word {value}.",
            "“{value}!” they cried, and the {subject} began to glow.",
            "Whoever says {value} commands the {subject}.",
            "On the {subject} was carved the word {value}.",
        ),
        (
            "Which word wakes the {subject}?",
            "What must one say to the {subject}?",
            "What word commands the {subject}?",
        ),
    ),
    FactKind(
        "creature",
        (
            "A beast called {value} guarded the {subject}.",
            "The {subject} belonged to {value}, a beast.",
            "{value}, half wolf and half eel, slept on the {subject}.",
            "To take the {subject} one had to pass the beast {value}.",
        ),
        (
            "Which beast guarded the {subject}?",
            "What beast watched over the {subject}?",
            "What was the name of the guardian of the {subject}?",
        ),
    ),
    FactKind(
        "town",
        (
            "The {subject} had come from {value}.",
            "In {value} they still mourn the {subject}.",
            "A thief had brought the {subject} from {value}.",
            "Long ago the {subject} was the pride of {value}.",
        ),
        (
            "Where did the {subject} come from?",
            "Which town lost the {subject}?",
            "From where was the {subject} taken?",
        ),
    ),
)
"""Facts of the things that the chapters of novels turn on."""

OF_TOWNS = (
    FactKind(
        "person",
        (
            "{subject} was founded by {value}.",
            "Its founder was {value}, says the charter of {subject}.",
            "{value} laid the first stone of {subject}.",
            "The founding of {subject} is credited to {value}.",
        ),
        ("Who founded {subject}?", "Who was the founder of {subject}?", "By whom was {subject} established?"),
    ),
    FactKind(
        "river",
        (
            "{subject} stands on the river {value}.",
            "The river {value} flows through {subject}.",
            "Boats reach {subject} by the {value}.",
            "The mills of {subject} are driven by the river {value}.",
        ),
        (
            "On which river is {subject}?",
            "Which river flows through {subject}?",
            "What river drives the mills of {subject}?",
        ),
    ),
    FactKind(
        "festival",
        (
            "The great feast of {subject} is the {value}.",
            "Every spring {subject} holds the {value}.",
            "For the {value}, all of {subject} stays awake.",
            "{subject} is best known for the {value}.",
        ),
        (
            "Which feast is held in {subject}?",
            "What does {subject} celebrate?",
            "What is the great festival of {subject}?",
        ),
    ),
    FactKind(
        "organisation",
        (
            "{subject} is governed by the {value}.",
            "The {value} makes the laws of {subject}.",
            "Power in {subject} lies with the {value}.",
            "Taxes of {subject} are paid to the {value}.",
        ),
        ("Who governs {subject}?", "Which body rules {subject}?", "What makes the laws of {subject}?"),
    ),
    FactKind(
        "school",
        (
            "Its children go to {value}, the only school of {subject}.",
            "{value} is the pride of {subject}.",
            "On the hill above {subject} stands {value}.",
            "Scholars come to {subject} for {value}.",
        ),
        (
            "Which school is in {subject}?",
            "What is the school of {subject} called?",
            "Where do the children of {subject} learn?",
        ),
    ),
)
"""Facts of the towns of an invented world."""
