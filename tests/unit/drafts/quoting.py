"""Blocks of one document, what they propose, and whether a draft is what its sources say."""

import hashlib

from palimpsest.decoding.quoting.proposals import proposals
from palimpsest.lm import TokenBytes
from tests.unit.quoting.blocks import block_of

from .running import prompt


def always(corpus: str, document: str, version: int) -> bool:
    return True


def quoting(
    model, document: str, ids, count: int = 10, alive=always, healed: bytes = b"", passage_tokens: int = 400
):
    """A block of one document, and what it proposes after some tokens."""
    tokens = [prompt(model, document)] if isinstance(document, str) else document
    block = block_of(tokens, passage_tokens=passage_tokens, write=TokenBytes(model.tokenizer))
    return block, proposals(block, ids, 5, count, alive, healed)


def check_sources(block, draft) -> None:
    documents: dict[str, bytes] = {}
    for passage in block.passages:
        documents[passage.document] = documents.get(passage.document, b"") + passage.text
    assert draft.sources
    for source in draft.sources:
        assert documents[source.document][source.byte_start : source.byte_end] == draft.text.encode()
        assert source.sha256 == hashlib.sha256(draft.text.encode()).hexdigest()
        said = documents[source.document].decode()
        assert said[source.char_start : source.char_end] == draft.text
