"""No damage to a stored chunk goes unnoticed, and none raises anything but what it should.

Some 4,400 cases: whatever is done to a chunk, decoding gives an error of the right class or exactly the cache that was
written. Checksums are forged where it says so, to reach what lies behind them.
"""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from palimpsest.errors import DataLoss, FailedPrecondition, InvalidArgument, Unimplemented
from palimpsest.kv import ChunkReader, Identity, KeyValues, decode, encode, read_header
from palimpsest.kv.container import FOOTER_SIZE, pack
from palimpsest.kv.header import Kind, Section

from .conftest import make_cache
from .damaging import CODECS, TOKENS, Chunk, cases, good_chunks, same


@pytest.fixture(scope="module")
def chunks(profile) -> dict[str, Chunk]:
    return good_chunks(profile)


@given(codec=st.sampled_from(CODECS), data=st.data())
@cases(1500)
def test_flipped_bits_are_noticed(chunks, codec, data):
    chunk = chunks[codec]
    bad = bytearray(chunk.data)
    # Half of the cases in the header, which is a small part of the chunk and has most of the decisions.
    size = data.draw(st.sampled_from([chunk.header.size, len(bad)]))
    spots = data.draw(
        st.lists(st.tuples(st.integers(0, size - 1), st.integers(0, 7)), min_size=1, max_size=4)
    )
    for at, bit in spots:
        bad[at] ^= 1 << bit
    kind = DataLoss
    if bad[:8] != chunk.data[:8]:
        kind = InvalidArgument
    elif bad[8] != chunk.data[8]:
        kind = Unimplemented
    if bytes(bad) == chunk.data:
        assert same(chunk.read(bytes(bad)), chunk.kv)
        return
    with pytest.raises(kind):
        chunk.read(bytes(bad))


@given(codec=st.sampled_from(CODECS), data=st.data())
@cases(500)
def test_a_cut_is_noticed(chunks, codec, data):
    chunk = chunks[codec]
    first = data.draw(st.integers(0, len(chunk.data)))
    last = data.draw(st.integers(first, len(chunk.data)))
    bad = chunk.data[:first] + chunk.data[last:]
    if first == last:
        return
    kinds = (DataLoss, InvalidArgument, Unimplemented) if first < 9 and bad else (DataLoss,)
    with pytest.raises(kinds):
        chunk.read(bad)


@given(codec=st.sampled_from(CODECS), other=st.sampled_from(CODECS), data=st.data())
@cases(500)
def test_bytes_that_do_not_belong_are_noticed(chunks, codec, other, data):
    chunk = chunks[codec]
    at = data.draw(st.integers(0, len(chunk.data)))
    how = data.draw(st.sampled_from(["insert", "append", "splice", "double"]))
    if how == "insert":
        bad = chunk.data[:at] + data.draw(st.binary(min_size=1, max_size=16)) + chunk.data[at:]
    elif how == "append":
        bad = chunk.data + data.draw(st.binary(min_size=1, max_size=64))
    elif how == "splice":
        bad = chunk.data[:at] + chunks[other].data[at:]
    else:
        bad = chunk.data + chunks[other].data
    if bad in (chunk.data, chunks[other].data):
        return
    with pytest.raises((DataLoss, InvalidArgument) if at < 9 else DataLoss):
        chunk.read(bad)


@given(codec=st.sampled_from(CODECS), data=st.data())
@cases(400)
def test_sections_in_each_others_place_are_noticed(chunks, codec, data):
    chunk = chunks[codec]
    spans = [(e.offset, e.offset + e.length) for e in chunk.header.entries]
    one, two = data.draw(st.permutations(spans))[:2]
    (a, b), (c, d) = sorted([one, two])
    bad = chunk.data[:a] + chunk.data[c:d] + chunk.data[b:c] + chunk.data[a:b] + chunk.data[d:]
    assert len(bad) == len(chunk.data)
    with pytest.raises(DataLoss):
        chunk.read(bad)


@given(codec=st.sampled_from(CODECS), data=st.data())
@cases(700)
def test_sections_in_each_others_place_are_noticed_under_matching_checksums(chunks, codec, data):
    chunk = chunks[codec]
    how = data.draw(st.sampled_from(["contents", "lines", "drop", "double", "kind", "layers"]))
    parts = list(chunk.sections)
    one, two = data.draw(st.permutations(range(len(parts))))[:2]
    a, b = parts[one], parts[two]
    if how == "contents":
        parts[one] = Section(a.kind, a.first_layer, a.layers, b.payload, b.symbols)
        parts[two] = Section(b.kind, b.first_layer, b.layers, a.payload, a.symbols)
    elif how == "lines":
        parts[one], parts[two] = b, a
    elif how == "drop":
        del parts[one]
    elif how == "double":
        parts.insert(two, a)
    elif how == "kind":
        other = data.draw(st.sampled_from([kind for kind in Kind if kind is not a.kind]))
        parts[one] = Section(other, a.first_layer, a.layers, a.payload, a.symbols)
    else:
        first, layers = data.draw(st.tuples(st.integers(0, 7), st.integers(0, 7)))
        if (first, layers) == (a.first_layer, a.layers):
            return
        parts[one] = Section(a.kind, first, layers, a.payload, a.symbols)
    forged = pack(chunk.meta, parts) if parts else chunk.data[:-1]
    if how == "lines" and a.first_layer == b.first_layer:
        # Keys and values of the same layers may come in either order; nothing is decoded wrongly.
        chunk.refused_or_same(forged, DataLoss)
        return
    with pytest.raises(DataLoss):
        chunk.read(forged)


@given(codec=st.sampled_from(CODECS), data=st.data())
@cases(800)
def test_damage_under_matching_checksums_is_noticed_or_changes_nothing(chunks, codec, data):
    chunk = chunks[codec]
    at = data.draw(st.integers(0, len(chunk.sections) - 1))
    section = chunk.sections[at]
    payload = bytearray(section.payload)
    size = data.draw(st.sampled_from([min(64, len(payload)), len(payload)]))
    for _ in range(data.draw(st.integers(1, 3))):
        payload[data.draw(st.integers(0, size - 1))] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        payload = payload[: data.draw(st.integers(0, len(payload)))]
    elif data.draw(st.booleans()):
        payload += data.draw(st.binary(max_size=8))
    parts = list(chunk.sections)
    parts[at] = Section(section.kind, section.first_layer, section.layers, bytes(payload), section.symbols)
    chunk.refused_or_same(pack(chunk.meta, parts), DataLoss)


@pytest.mark.parametrize("codec", CODECS)
def test_a_reader_that_has_failed_never_hands_out_a_cache(chunks, codec):
    chunk = chunks[codec]
    at = chunk.header.entries[-1].offset
    bad = bytearray(chunk.data)
    bad[at] ^= 1
    reader = ChunkReader(profile=chunk.profile)
    with pytest.raises(DataLoss):
        list(reader.feed(bytes(bad)))
    for again in (lambda: list(reader.feed(chunk.data[at:])), reader.finish):
        with pytest.raises(DataLoss):
            again()


def test_what_cannot_be_coded_shorter_is_kept_as_it_is():
    noise = torch.randint(-(2**15), 2**15, (4, 2, 64, 16), generator=torch.Generator().manual_seed(1))
    kv = KeyValues(
        noise.to(torch.int16).view(torch.bfloat16), noise.flip(0).to(torch.int16).view(torch.bfloat16)
    )
    data = encode(kv, levels=["lossless"])["lossless"]
    assert len(data) <= 2 * 2 * noise.numel() + 12 * 2 + read_header(data).size + FOOTER_SIZE
    assert same(decode(data), kv)
    for at in range(read_header(data).size, len(data), 501):
        bad = bytearray(data)
        bad[at] ^= 4
        with pytest.raises(DataLoss):
            decode(bytes(bad))


@pytest.mark.parametrize("codec", CODECS)
def test_a_chunk_in_anothers_place_is_noticed_when_its_prefix_is_asked_for(profile, codec):
    parts = make_cache(8, 3 * TOKENS).chunks(TOKENS)
    names = [Identity(model="m", tokenizer="t", prefix=f"sha256:{at}") for at in range(3)]
    level = "lossless" if codec == "lossless" else "balanced"
    coded = [
        encode(
            part,
            levels=[level],
            codec=codec if codec != "lossless" else "generic",
            profile=profile,
            identity=name,
        )[level]
        for part, name in zip(parts, names, strict=True)
    ]
    for at, name in enumerate(names):
        for found, data in enumerate(coded):
            if found == at:
                assert decode(data, profile=profile, identity=name).start == at * TOKENS
                continue
            with pytest.raises(FailedPrecondition) as wrong:
                decode(data, profile=profile, identity=name)
            assert wrong.value.metadata["field"] == "prefix"
    # A header from one chunk over the sections of the next.
    one, two = read_header(coded[1]), read_header(coded[2])
    with pytest.raises(DataLoss):
        decode(coded[1][: one.size] + coded[2][two.size :], profile=profile, identity=names[1])
