"""Corpora of small documents, with a tokenizer that is real and an encoder that costs nothing."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from services.datastore.index.encoder import HashedWords
from services.datastore.store.corpus import Corpus
from services.datastore.store.documents import Document, DocumentHead
from services.datastore.store.manifest import CorpusSpec
from services.datastore.tokens import ByteTokenizer

PASSAGE = 16

Maker = Callable[..., Document]


def spec_for(tokenizer: ByteTokenizer, **changes: object) -> CorpusSpec:
    fields = {
        "corpus": "c", "model": "tiny", "model_fingerprint": "sha256:m", "tokenizer_fingerprint": "sha256:t",
        "vocabulary": tokenizer.size, "encoder": "hashed-words", "encoder_fingerprint": "sha256:e",
        "dim": HashedWords.dim, "passage_tokens": PASSAGE,
    }  # fmt: skip
    return CorpusSpec(**{**fields, **changes})


def make_document(
    tokenizer: ByteTokenizer, name: str, data: bytes, title: str = "", vectors: bool = True, **head: object
) -> Document:
    encoded = tokenizer.encode(data)
    sha256 = hashlib.sha256(data).hexdigest()
    document = Document(
        DocumentHead(name, 0, title=title, sha256=sha256, **head), data, encoded.ids, encoded.starts, PASSAGE
    )
    if vectors:
        texts = [document.embedded_text(n) for n in range(document.passages)]
        document.vectors = HashedWords().encode(texts).astype("float16")
    return document


@pytest.fixture(scope="session")
def tokenizer(tiny_model: Path) -> ByteTokenizer:
    return ByteTokenizer(tiny_model)


@pytest.fixture(scope="session")
def make(tokenizer: ByteTokenizer) -> Maker:
    """``make(name, data, title)``: a document with its tokens and vectors."""
    return lambda name, data, title="", **more: make_document(tokenizer, name, data, title, **more)


@pytest.fixture
def corpus(tokenizer: ByteTokenizer, tmp_path: Path) -> Corpus:
    folder = tmp_path / "c"
    folder.mkdir()
    return Corpus.create(folder, spec_for(tokenizer))
