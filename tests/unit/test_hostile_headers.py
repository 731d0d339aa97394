"""JSON within binary files from outside: chunks, profiles, n-gram stores, candidate blocks."""

import hashlib
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save

from palimpsest.candidates import Candidates
from palimpsest.errors import DataLoss, InvalidArgument, Reason
from palimpsest.kv import CalibrationProfile, KeyValues, encode, read_header
from palimpsest.kv.container import _HEAD
from palimpsest.ngrams.layout import MAGIC, VERSION, read_layout

HOSTILE = {
    "nested": b"[" * 20_000,
    "nested within": b'{"a":' * 70 + b"1" + b"}" * 70,
    "digits": b'{"format": ' + b"9" * 5000 + b"}",
    "beyond 64 bits": b'{"format": 36893488147419103232, "tokens": 36893488147419103232}',
    "infinite": b'{"format": 1e999}',
    "not a number": b'{"format": NaN}',
    "half a surrogate pair": b'{"tokenizer": "\\ud800"}',
    "a key twice": b'{"format": 1, "format": 2}',
    "a list": b"[]",
    "null": b"null",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_chunks_header(text):
    sound = bytes(
        encode(KeyValues(torch.zeros(1, 1, 4, 8), torch.zeros(1, 1, 4, 8)), levels=["lossless"])["lossless"]
    )
    fields = list(_HEAD.unpack_from(sound))
    directory = sound[_HEAD.size + fields[4] : read_header(sound).size]
    fields[4], fields[6] = len(text), fields[6] + len(text) - fields[4]
    head = _HEAD.pack(*fields)[:-4]
    crc = zlib.crc32(text + directory, zlib.crc32(head))
    data = head + struct.pack("<I", crc) + text + directory + sound[read_header(sound).size :]
    with pytest.raises((DataLoss, InvalidArgument)) as refused:
        read_header(data)
    assert "header" in refused.value.message


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_profiles_facts(text):
    facts = save({"keys.mean": np.zeros(1, np.float32)}, {"palimpsest.kv.profile": text.decode()})
    for data in (facts, struct.pack("<Q", len(text)) + text):
        with pytest.raises(InvalidArgument) as refused:
            CalibrationProfile.from_bytes(data)
        assert refused.value.reason == Reason.KV_PROFILE_INVALID


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_an_ngram_stores_header(tmp_path, text):
    head = struct.pack("<8sII", MAGIC, VERSION, len(text)) + text
    path = Path(tmp_path, "store")
    path.write_bytes(head + hashlib.sha256(head).digest() + b"\0" * 4096)
    with path.open("rb") as file, pytest.raises(DataLoss) as refused:
        read_layout(file, path)
    assert refused.value.reason == Reason.NGRAMS_DAMAGED


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_candidate_blocks_metadata(text):
    for data in (
        save({"first": np.zeros(1, np.int64)}, {"candidates": text.decode()}),
        struct.pack("<Q", len(text)) + text,
    ):
        with pytest.raises(InvalidArgument) as refused:
            Candidates.from_bytes(data)
        assert refused.value.reason == Reason.CANDIDATES_INVALID
