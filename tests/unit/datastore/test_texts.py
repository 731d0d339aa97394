"""Tokens that know their bytes, and vectors that know what is alike."""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palimpsest.errors import FailedPrecondition, InvalidArgument, Reason
from services.datastore import tokens
from services.datastore.index.encoder import DEFAULT, HashedWords, encoder_fingerprint, open_encoder
from services.datastore.tokens import ByteTokenizer

ODD = "BOM \ufeff CRLF\r\n\r\n\t  e\u0301 👩‍👩‍👧 \0 <|im_end|> العربية <|end|> ~~~~ 1234567 \U0001f9ff"


@pytest.fixture(scope="module")
def real(sample_model: Path) -> ByteTokenizer:
    return ByteTokenizer(sample_model)


@pytest.mark.model
def test_a_real_tokenizer_gives_every_byte_back_and_makes_no_special_token(real):
    data = ODD.encode() * 50
    ids, starts = real.encode(data)
    assert not set(ids.tolist()) & real.special
    assert starts[-1] == len(data)
    pieces = [data[a:b] for a, b in pairwise(starts)]
    assert pieces == [real.token_bytes[i] for i in ids.tolist()]
    assert b"<|im_end|>" not in real.token_bytes
    # The vocabulary lacks a few control characters: no ids, and so no quotes, could stand for them.
    assert b"\x04" not in real.token_bytes
    with pytest.raises(InvalidArgument) as lost:
        real.encode(b"end of transmission \x04")
    assert lost.value.reason == Reason.DOCUMENT_ROUND_TRIP


@settings(deadline=None, max_examples=300)
@given(text=st.text(max_size=60))
def test_any_text_comes_back(tokenizer, text):
    data = text.encode()
    ids, starts = tokenizer.encode(data)
    assert b"".join(tokenizer.token_bytes[i] for i in ids.tolist()) == data
    assert starts.tolist() == np.cumsum([0, *(len(tokenizer.token_bytes[i]) for i in ids.tolist())]).tolist()
    assert not set(ids.tolist()) & tokenizer.special


def test_long_texts_are_cut_where_a_line_begins(tokenizer, monkeypatch):
    monkeypatch.setattr(tokens, "_CHUNK", 100)
    data = "".join(f"line {n}: the quick brown fox jumps\n" for n in range(60)).encode() + b"x" * 450
    ids, _ = tokenizer.encode(data)
    assert b"".join(tokenizer.token_bytes[i] for i in ids.tolist()) == data
    parts = list(tokens._cut(data.decode()))
    assert "".join(parts).encode() == data
    assert all(part.endswith("\n") for part in parts[:20])


def test_what_cannot_be_told_is_refused(tokenizer, tmp_path, tiny_model):
    with pytest.raises(InvalidArgument) as bad:
        tokenizer.encode(b"ok \xff")
    assert (bad.value.reason, bad.value.metadata["offset"]) == (Reason.DOCUMENT_ENCODING, "3")
    with pytest.raises(FailedPrecondition):
        ByteTokenizer(tmp_path)
    spec = json.loads((tiny_model / "tokenizer.json").read_text())
    normalising = {**spec, "normalizer": {"type": "NFC"}}
    (tmp_path / "tokenizer.json").write_text(json.dumps(normalising))
    with pytest.raises(InvalidArgument) as changed:
        ByteTokenizer(tmp_path).encode("e\u0301".encode())
    assert changed.value.reason == Reason.DOCUMENT_ROUND_TRIP
    words = {**spec, "decoder": None, "pre_tokenizer": {"type": "Whitespace"}}
    (tmp_path / "tokenizer.json").write_text(json.dumps(words))
    with pytest.raises(FailedPrecondition) as unsupported:
        ByteTokenizer(tmp_path)
    assert unsupported.value.reason == Reason.TOKENIZER_UNSUPPORTED


@pytest.mark.model
def test_the_real_encoder_knows_what_is_alike_in_any_batch():
    encoder = open_encoder(DEFAULT, threads=1)
    texts = [
        "A moth was found in the relay.",
        "An insect sat in the switch.",
        "Inflation rose by two percent.",
        "x " * 900,
    ]
    together = encoder.encode(texts)
    assert together.shape == (4, encoder.dim)
    assert np.linalg.norm(together, axis=1) == pytest.approx(np.ones(4), abs=1e-5)
    alone = np.concatenate([encoder.encode([text]) for text in texts])
    assert np.allclose(together, alone, atol=1e-5)
    assert together[0] @ together[1] > 0.4 > together[0] @ together[2]
    assert encoder.encode([]).shape == (0, encoder.dim)
    assert encoder_fingerprint(DEFAULT) != encoder_fingerprint("hashed-words")


def test_the_encoder_without_a_model():
    vectors = HashedWords().encode(["a moth in a relay", "the moth in the relay", "something else", ""])
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2]
    assert not vectors[3].any()
    with pytest.raises(InvalidArgument):
        open_encoder("word2vec")
