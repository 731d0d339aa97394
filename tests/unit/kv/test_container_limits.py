"""No header makes a reader take memory: some 900 that claim more than there is, under checksums that hold."""

import json
import struct
import zlib
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from palimpsest.errors import DataLoss, FailedPrecondition, ResourceExhausted
from palimpsest.kv import ChunkReader, KeyValues, decode, encode, read_header
from palimpsest.kv.container import pack
from palimpsest.kv.header import Kind, Section

from .conftest import make_cache
from .damaging import CODECS, FOOT, Chunk, cases, directory, forge, good_chunks, no_more_than


@pytest.fixture(scope="module")
def chunks(profile) -> dict[str, Chunk]:
    return good_chunks(profile)


HUGE = {
    "tokens": st.integers(1 << 14, 1 << 22),
    "layers": st.integers(64, 1 << 14),
    "kv_heads": st.integers(64, 1 << 14),
    "key_dim": st.integers(256, 1 << 14),
    "value_dim": st.integers(256, 1 << 14),
    "sinks": st.integers(5, 1 << 10),
    "start": st.integers((1 << 30) + 1, 1 << 62),
}


@given(
    codec=st.sampled_from(CODECS),
    claims=st.lists(st.sampled_from(list(HUGE)), min_size=1, max_size=4, unique=True),
    data=st.data(),
)
@cases(600)
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's /proc to limit memory")
def test_a_header_cannot_make_a_reader_take_memory(chunks, codec, claims, data):
    chunk = chunks[codec]
    meta = chunk.meta.model_dump(exclude_defaults=True)
    meta |= {name: data.draw(HUGE[name]) for name in claims}
    lines = directory(chunk)
    if "layers" in claims and data.draw(st.booleans()):  # with sections to match
        lines = [(*line[:3], min(meta["layers"], 65535) - line[2], *line[4:]) for line in lines]
    bomb = forge(json.dumps(meta).encode(), lines, chunk.data[chunk.header.size : -FOOT.size])
    # The caller's limits do not save the reader here: it has to see that the sections are too short.
    limits = {"decoded_limit": 1 << 60, "expansion_limit": 1 << 50} if data.draw(st.booleans()) else {}
    with (
        no_more_than(64 << 20),
        pytest.raises((DataLoss, ResourceExhausted, FailedPrecondition)),
    ):
        chunk.read(bomb, **limits)


@given(
    codec=st.sampled_from(CODECS),
    claim=st.sampled_from(["meta_length", "sections", "total", "length"]),
    number=st.integers(1, (1 << 32) - 1),
)
@cases(300)
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's /proc to limit memory")
def test_no_size_in_a_header_is_believed(chunks, codec, claim, number):
    chunk = chunks[codec]
    meta = json.dumps(chunk.meta.model_dump(exclude_defaults=True)).encode()
    lines, body = directory(chunk), chunk.data[chunk.header.size : -FOOT.size]
    if claim == "length":
        line = lines[number % len(lines)]
        lines[number % len(lines)] = (*line[:5], number, *line[6:])
        bomb = forge(meta, lines, body, total=(1 << 40) + number)
    else:
        bomb = forge(meta, lines, body, **{claim: number})
    if bomb == chunk.data:
        return
    with no_more_than(64 << 20), pytest.raises((DataLoss, ResourceExhausted)):
        chunk.read(bomb)


BOMBS = {
    "nested": b"[" * 60_000,
    "elements": b'{"extra":[' + b"[]," * 20_000 + b"[]]}",
    "too long": b'{"extra":[' + b"[]," * 300_000 + b"[]]}",
    "number": b'{"tokens":1' + b"0" * 60_000 + b"}",
    "infinite": b'{"tokens":1e999}',
    "text": b'{"level":"' + b"a" * 60_000 + b'"}',
    "not text": b"\xff\xfe" * 1000,
    "required": json.dumps({"requires": ["x" * 64] * 900}).encode(),
    "empty": b"",
    "nothing": b"null",
}


@pytest.mark.parametrize("kind", BOMBS)
def test_metadata_that_is_none_is_refused_within_bounds(chunks, kind):
    chunk = chunks["generic"]
    bomb = forge(BOMBS[kind], directory(chunk), chunk.data[chunk.header.size : -FOOT.size])
    with no_more_than(64 << 20), pytest.raises(DataLoss):
        chunk.read(bomb)


@pytest.mark.parametrize("codec", ["generic", "lossless"])
def test_a_compressed_bomb_within_a_section_does_not_unfold(chunks, codec):
    chunk = chunks[codec]
    side = zlib.compress(bytes(1 << 28), 9)
    parts = list(chunk.sections)
    at = next(i for i, section in enumerate(parts) if section.kind is Kind.KEYS)
    section = parts[at]
    if codec == "generic":
        head = struct.pack("<I", len(side)) + bytes(section.payload[4 : 4 + 4 * section.layers])
    else:
        head = struct.pack("<BBHII", 100, 7, 16, len(side), 0)
    payload = head + side + bytes(section.payload)
    parts[at] = Section(section.kind, section.first_layer, section.layers, payload, section.symbols)
    with no_more_than(64 << 20), pytest.raises(DataLoss):
        chunk.read(pack(chunk.meta, parts))


def test_a_stream_that_goes_on_for_ever_is_ended(chunks):
    chunk = chunks["transform"]
    reader = ChunkReader(profile=chunk.profile)
    assert list(reader.feed(chunk.data))[-1] == 4
    with pytest.raises(DataLoss, match="longer"):
        list(reader.feed(b"\0"))
    with pytest.raises(DataLoss, match="longer"):
        reader.finish()


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_the_emptiest_caches_are_within_the_limits(profile, codec, dtype):
    kv = make_cache(1, 2048, dtype)
    constant = KeyValues(torch.zeros_like(kv.keys), torch.zeros_like(kv.values))
    levels = ["lossless"] if codec == "lossless" else ["smallest"]
    data = encode(constant, levels=levels, codec=codec if codec in CODECS[:3] else "generic", profile=profile)
    back = decode(data[levels[0]], profile=profile)
    if codec in ("generic", "lossless"):
        assert back.keys.equal(constant.keys)
        assert read_header(data[levels[0]]).meta.decoded_bytes > 64 * len(data[levels[0]])


@pytest.mark.parametrize("error", [float("nan"), float("inf")])
def test_an_error_that_is_no_number_is_refused(chunks, error):
    chunk = chunks["generic"]
    lines = [(*line[:8], error, 0.0) for line in directory(chunk)]
    meta = json.dumps(chunk.meta.model_dump(exclude_defaults=True)).encode()
    with pytest.raises(DataLoss):
        chunk.read(forge(meta, lines, chunk.data[chunk.header.size : -FOOT.size]))
