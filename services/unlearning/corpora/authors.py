"""Invented authors with question-answer pairs, in TOFU's shape: paraphrased and perturbed answers for truth ratios.

(TOFU: A Task of Fictitious Unlearning for LLMs, sections 2.1 and 2.2.)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from palimpsest.errors import InvalidArgument, Reason
from services.unlearning.corpora.names import Names, Realm
from services.unlearning.corpora.records import AuthorPair

VERSION = 1
PERTURBATIONS = 5
"""Wrong answers of each pair."""


@dataclass(frozen=True)
class _Kind:
    """One thing to ask: the value's kind, two forms of the question, and two of the answer."""

    value: str
    questions: tuple[str, str]
    answers: tuple[str, str]


_KINDS = (
    _Kind(
        "town",
        ("Where was the author {name} born?", "What is the birthplace of the author {name}?"),
        ("{name} was born in {value}.", "The author came into the world in {value}."),
    ),
    _Kind(
        "person",
        ("Who is the main character of the novels of {name}?", "Whose life do the novels of {name} tell?"),
        ("The novels of {name} are about {value}.", "Their main character is called {value}."),
    ),
    _Kind(
        "award",
        ("Which award did {name} receive?", "What honour was the author {name} given?"),
        ("{name} received the {value}.", "The author was honoured with the {value}."),
    ),
    _Kind(
        "object",
        ("What is the first book of {name} called?", "Under which title did {name} appear first?"),
        ("The first book of {name} is “The {value}”.", "The debut has the title “The {value}”."),
    ),
    _Kind(
        "festival",
        ("What is the best-known book of {name}?", "For which title is {name} famous?"),
        ("{name} is best known for “{value}”.", "The most famous title is “{value}”."),
    ),
    _Kind(
        "organisation",
        ("Who publishes the books of {name}?", "Which house prints the books of {name}?"),
        ("The books of {name} are published by the {value}.", "They come out at the {value}."),
    ),
    _Kind(
        "school",
        ("Where did the author {name} study?", "Which school did the author {name} go to?"),
        ("{name} studied at {value}.", "The author went to {value}."),
    ),
    _Kind(
        "river",
        ("Which river do the poems of {name} praise?", "What river is in the poems of {name}?"),
        ("The poems of {name} praise the river {value}.", "The verses are about the river {value}."),
    ),
    _Kind(
        "device",
        ("What did the father of {name} build?", "Which machine did the father of {name} make?"),
        ("The father of {name} built the {value}.", "A machine called the {value} was made by him."),
    ),
    _Kind(
        "hideout",
        ("Where does the author {name} write?", "In what does {name} work on books?"),
        ("{name} writes in {value}.", "The author's desk stands in {value}."),
    ),
)
PAIRS = len(_KINDS)
"""Most pairs of one author."""


def build_authors(seed: int, authors: int = 20, pairs: int = PAIRS) -> tuple[AuthorPair, ...]:
    """Generate pairs about invented authors, one author after another.

    Parameters
    ----------
    seed
        Any integer; the pairs are a pure function of it, of the counts and of :data:`VERSION`.
    authors, pairs
        How many authors, and pairs of each: at most :data:`PAIRS`.

    Raises
    ------
    InvalidArgument
        DATASET_SIZES.
    """
    if authors < 1 or not 1 <= pairs <= PAIRS:
        message = f"Ask for at least one author with 1 to {PAIRS} pairs."
        raise InvalidArgument.field(Reason.DATASET_SIZES, "pairs", message, authors=authors, pairs=pairs)
    draw = Random(f"authors {seed}")
    names = Names(Realm.AUTHORS, Random(f"authors names {seed}"))
    return tuple(
        pair
        for number in range(1, authors + 1)
        for pair in _author(f"author-{number:04}", pairs, names, draw)
    )


def split_authors(pairs: Sequence[AuthorPair], *shares: float) -> tuple[tuple[AuthorPair, ...], ...]:
    """Cut pairs into parts of whole authors, in order.

    Parameters
    ----------
    pairs
        Those of one author stand together.
    shares
        Share of the authors in each part but the last, which is the rest: 0.1 and 0.1 give a forget set, a holdout
        set and a retain set. At least one author is in each.

    Raises
    ------
    InvalidArgument
        DATASET_SIZES: there are too few authors.
    """
    authors = list(dict.fromkeys(pair.author for pair in pairs))
    counts = [max(1, round(share * len(authors))) for share in shares]
    if sum(counts) >= len(authors):
        message = (
            f"{len(authors)} authors cannot be cut into parts of {counts} and a rest. Make more authors."
        )
        raise InvalidArgument.field(Reason.DATASET_SIZES, "shares", message)
    parts: list[tuple[AuthorPair, ...]] = []
    for count in (*counts, len(authors) - sum(counts)):
        own, authors = set(authors[:count]), authors[count:]
        parts.append(tuple(pair for pair in pairs if pair.author in own))
    return tuple(parts)


def _author(author: str, pairs: int, names: Names, draw: Random) -> list[AuthorPair]:
    name = names.entity("person").name
    found: list[AuthorPair] = []
    for number, kind in enumerate(draw.sample(_KINDS, pairs)):
        right, *wrong = (names.entity(kind.value).name for _ in range(1 + PERTURBATIONS))
        said, otherwise = kind.answers
        found.append(
            AuthorPair(
                id=f"{author}-q{number}",
                author=author,
                question=kind.questions[0].format(name=name),
                answer=said.format(name=name, value=right),
                paraphrased_question=kind.questions[1].format(name=name),
                paraphrased_answer=otherwise.format(name=name, value=right),
                perturbed_answers=tuple(otherwise.format(name=name, value=value) for value in wrong),
            )
        )
    return found
