"""Candidate blocks for tests: passages of a text cut every so many tokens, with keys made up or computed."""

from collections.abc import Sequence

import torch

from palimpsest.candidates import Candidates, Passage
from palimpsest.candidates.keys import quantise


def block_of(
    documents: Sequence[Sequence[int]],
    size: int = 64,
    passage_tokens: int = 16,
    left: int = 8,
    scores: Sequence[float] | None = None,
    write=None,
) -> Candidates:
    """A block of all passages of some documents given as tokens; ``write`` gives the bytes of a token."""
    write = write or (lambda token: b"<%d>" % token)
    passages, tokens, lengths, lefts = [], [], [], []
    for number, ids in enumerate(documents):
        pieces = [write(t) for t in ids]
        for index, start in enumerate(range(0, len(ids), passage_tokens)):
            own = pieces[start : start + passage_tokens]
            before = b"".join(pieces[:start])
            passages.append(
                Passage(
                    corpus="corpora/c", document=f"d{number}", version=1, passage=index,
                    score=1.0 if scores is None else scores[number], token_start=start, title=f"Document {number}",
                    uri=f"test:{number}", text=b"".join(own), byte_start=len(before),
                    char_start=sum(b & 0xC0 != 0x80 for b in before), document_sha256="0" * 64,
                )
            )  # fmt: skip
            tokens.append(list(ids[start : start + passage_tokens]))
            lengths.append([len(p) for p in own])
            lefts.append(list(ids[max(0, start - left) : start]))
    return Candidates.without_keys(passages, tokens, lengths, lefts, size)


def fill(block: Candidates, seed: int = 0) -> Candidates:
    """Give every passage random keys."""
    random = torch.Generator().manual_seed(seed)
    for number in range(len(block.passages)):
        own = quantise(torch.randn(len(block.ids(number)), block.keys.shape[1], generator=random))
        block.put_keys(number, own.keys, own.scales, own.norms)
    return block
