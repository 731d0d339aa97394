"""The union of several forget sets: what one training run for several requests takes out."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import zip_longest

from palimpsest.training.batches import Example
from services.unlearning.metrics.items import Pair, Text
from services.unlearning.removal.datasets.packing import PackedExamples
from services.unlearning.removal.datasets.sets import MOST_EXAMPLES, MOST_TOKENS, DataSet, EncodedSet


def union_of(sets: Mapping[str, EncodedSet]) -> EncodedSet:
    """Return the union of the sets of several requests.

    An entry whose text another set before has as well is in it once. Sequences of the sets take turns, so that whoever
    looks at the first of them alone, as a stopping rule does, sees some of each.

    Parameters
    ----------
    sets
        By the ids of their requests, in the order in which they count. Entries are named ``request/id`` in the union,
        as two sets may have an id in common.
    """
    known: set[tuple[str, str]] = set()
    documents: list[Text] = []
    questions: list[Pair] = []
    tokens: dict[str, int] = {}
    turns: list[Iterator[tuple[str, Example]]] = []
    for request, each in sets.items():
        own = {name: (kind, text) for name, kind, text in each.source.texts()}
        names = {name: f"{request}/{name}" for name, entry in own.items() if entry not in known}
        known |= set(own.values())
        documents += [replace(e, id=names[e.id]) for e in each.source.documents if e.id in names]
        questions += [replace(e, id=names[e.id]) for e in each.source.questions if e.id in names]
        tokens |= {named: each.tokens[name] for name, named in names.items()}
        turns.append(_renamed(each.examples, names))
    examples = PackedExamples()
    for turn in zip_longest(*turns):
        for name, example in filter(None, turn):
            examples.append(example.ids, example.counted.index(True), name)
    artifact = " ".join(each.source.artifact for each in sets.values())
    return EncodedSet(DataSet("forget", artifact, tuple(documents), tuple(questions)), examples, tokens)


def _renamed(examples: Sequence[Example], names: Mapping[str, str]) -> Iterator[tuple[str, Example]]:
    """Yield the examples of some entries under other names; one at a time, as they take much memory."""
    for example in examples:
        if example.name in names:
            yield names[example.name], example


def has_room(sets: Sequence[EncodedSet]) -> bool:
    """Whether the union of some sets is within the limits of one data set."""
    examples, tokens = sum(len(each.examples) for each in sets), sum(each.total for each in sets)
    return examples <= MOST_EXAMPLES and tokens <= MOST_TOKENS
