"""What passages go on with, found by a prompt's last tokens: against loops."""

import random

import pytest

from palimpsest.decoding.quoting.proposals import LONGEST, proposals
from tests.unit.quoting.blocks import block_of

from .quoting import always


def plainly(documents, passage_tokens, scores, ids):
    """Match, score and place of everything that two tokens or more lead to, and what follows; by loops."""
    found, place = [], 0
    for number, document in enumerate(documents):
        for start in range(0, len(document), passage_tokens):
            passage = document[start : start + passage_tokens]
            for at in range(len(passage)):
                size = 0
                while size < min(at, len(ids), LONGEST) and passage[at - 1 - size] == ids[-1 - size]:
                    size += 1
                if size >= 2:
                    found.append((-size, -scores[number], place + at, tuple(passage[at:])))
            place += len(passage)
    return [rest for *_, rest in sorted(found)]


@pytest.mark.parametrize("seed", range(30))
def test_matches_are_those_of_a_plain_loop(seed):
    chance = random.Random(seed)
    documents = [
        [chance.randrange(4) for _ in range(chance.randrange(2, 60))] for _ in range(chance.randrange(1, 4))
    ]
    scores = [chance.choice([0.5, 1.0]) for _ in documents]
    ids = [chance.randrange(4) for _ in range(chance.randrange(1, 40))]
    size, tokens = chance.choice([1, 7, 16, 40]), chance.choice([3, 99])
    block = block_of(documents, passage_tokens=size, scores=scores)
    found = [one.ids for one in proposals(block, ids, 999, tokens, always)]
    whole = list(dict.fromkeys(rest[:tokens] for rest in plainly(documents, size, scores, ids)))
    assert found == whole
    assert [one.ids for one in proposals(block, ids, 2, tokens, always)] == whole[:2]


def test_nothing_to_propose():
    assert proposals(block_of([]), [1, 2], 3, 9, always) == []
    assert proposals(block_of([[1, 2, 3]]), [], 3, 9, always) == []
    assert proposals(block_of([[1, 2, 3]]), [2], 3, 9, always) == []
    assert proposals(block_of([[1, 2]]), [1, 2], 3, 9, always) == []  # nothing follows in its passage
