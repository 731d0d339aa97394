"""Continuations of a prompt that passages contain: drafts that were not generated, with their sources."""

import hashlib
from collections.abc import Callable, Sequence

import numpy as np

from palimpsest.candidates.block import Candidates
from palimpsest.decoding.drafts.hypotheses import Proposal
from palimpsest.decoding.quoting.attribution import source_of
from palimpsest.decoding.sources import Source

SHORTEST = 2
LONGEST = 32

Alive = Callable[[str, str, int], bool]
"""Whether a version of a document of a corpus has not been deleted."""


def proposals(
    block: Candidates, ids: Sequence[int], count: int, tokens: int, alive: Alive, healed: bytes = b""
) -> list[Proposal]:
    """Find a prompt's last tokens in a block, and return what follows them there.

    Parameters
    ----------
    block
        Passages.
    ids
        The prompt's tokens.
    count
        Maximum number of proposals, by length of the match, then by score of the passage.
    tokens
        Maximum number of tokens of each.
    alive
        Called when a draft has ended, so that a document deleted in between is not quoted.
    healed
        Bytes removed from the prompt's end: the continuation has to begin with them.

    Returns
    -------
    list of Proposal
        Without duplicates; empty where fewer than two tokens match.
    """
    positions = [(size, position) for size, position in _matches(block, ids) if size >= SHORTEST]
    of = block.passage_of()
    positions.sort(key=lambda pair: (-pair[0], -block.passages[of[pair[1]]].score, pair[1]))
    found: dict[tuple[int, ...], Proposal] = {}
    for _, position in positions:
        passage = int(of[position])
        first, text, offsets = (
            int(block.first[passage]), block.passages[passage].text, block.byte_offsets(passage),
        )  # fmt: skip
        begin = int(offsets[position - first]) + len(healed)
        if not text[begin - len(healed) :].startswith(healed) or _within_character(text, begin):
            continue
        stop = min(position + tokens, int(block.first[passage + 1]))
        while stop > position and _within_character(text, int(offsets[stop - first])):
            stop -= 1  # a proposal ends with a whole character
        quoted = tuple(block.tokens[position:stop].tolist())
        if quoted and quoted not in found:
            found[quoted] = Proposal(quoted, _sources(block, passage, position, alive, len(healed)))
            if len(found) == count:
                break
    return list(found.values())


def _within_character(text: bytes, at: int) -> bool:
    return at < len(text) and text[at] & 0xC0 == 0x80


def _matches(block: Candidates, ids: Sequence[int]) -> list[tuple[int, int]]:
    """Length of each match in a block, and the position after it."""
    if not len(block) or not len(ids):
        return []
    tokens, of, context = block.tokens, block.passage_of(), ids[-LONGEST:]
    ends = np.flatnonzero(tokens[:-1] == context[-1])
    ends = ends[of[ends] == of[ends + 1]]
    sizes = np.ones(len(ends), dtype=np.int64)
    going = np.arange(len(ends))
    for back in range(1, len(context)):
        at = ends[going] - back
        inside = at >= block.first[of[ends[going]]]
        going, at = going[inside], at[inside]
        going = going[tokens[at] == context[-1 - back]]
        if not len(going):
            break
        sizes[going] += 1
    return [(int(size), int(end) + 1) for size, end in zip(sizes, ends, strict=True)]


def _sources(
    block: Candidates, number: int, position: int, alive: Alive, skip: int
) -> Callable[[str], tuple[Source, ...]]:
    passage, at = block.passages[number], position - int(block.first[number])

    def sources(text: str) -> tuple[Source, ...]:
        """The sources of a draft's text; none if its documents are deleted or the bytes differ."""
        written, offsets = text.encode(), block.byte_offsets(number)
        begin = int(offsets[at]) + skip
        end = begin + len(written)
        if not written or passage.text[begin:end] != written:
            return ()
        # The whole tokens that contain these bytes: the healed bytes may be all of the first.
        first = int(np.searchsorted(offsets, begin, side="right")) - 1
        last = int(np.searchsorted(offsets, end))
        digest = hashlib.sha256(written).hexdigest()
        owners = [o for o in (passage, *passage.owners) if alive(o.corpus, o.document, o.version)]
        return tuple(source_of(passage, o, begin, end, first, last, digest) for o in owners)

    return sources
