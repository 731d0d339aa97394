"""Spans made by hand: characters cut at both ends, stops, bytes that differ."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palimpsest.decoding.quoting import QuotingStats, SpanKind
from palimpsest.decoding.quoting.attribution import Attribution, inwards, is_weak
from palimpsest.decoding.quoting.offsets import OffsetDetokenizer

from .blocks import block_of


@given(st.text(max_size=12), st.integers(0, 48), st.integers(0, 48))
def test_ends_within_a_character_move_inwards(text, a, b):
    data = text.encode(errors="surrogatepass") if not any("\ud800" <= c <= "\udfff" for c in text) else b"x"
    begin, end = min(a, b, len(data)), min(max(a, b), len(data))
    first, last = inwards(data, begin, end)
    data[first:last].decode()
    assert begin <= first <= last <= end
    starts = [n for n in range(len(data) + 1) if n == len(data) or data[n] & 0xC0 != 0x80]
    inside = [n for n in starts if begin <= n <= end]
    if len(inside) >= 2:
        assert (first, last) == (inside[0], inside[-1])
    else:
        assert first == last


@pytest.mark.parametrize(
    ("text", "tokens", "weak"),
    [
        ("in the year 1921", 4, False), ("of the and in", 4, True), ("Paris", 1, True), (" , . ;", 3, True),
        ("雪の日", 3, False),
    ],
)  # fmt: skip
def test_short_and_common_spans_are_weak(text, tokens, weak):
    assert is_weak(text, tokens) == weak


class Bytes:
    """A tokenizer whose tokens are single bytes."""

    def decode(self, ids, **_):
        return bytes(ids).decode(errors="replace")

    def convert_ids_to_tokens(self, token):
        return chr(token)


def attribute(
    source: str, said: bytes, positions: list[int], out: int | None = None, passage_tokens: int = 100
):
    """Spans of a text said byte by byte, of which ``out`` bytes are out; ``positions`` are -1 for the model's own."""
    block = block_of([list(source.encode())], 8, passage_tokens, write=lambda t: bytes([t]))
    written, stats = OffsetDetokenizer(Bytes(), lambda t: bytes([t]), frozenset()), QuotingStats()
    attribution = Attribution(0, block, written, lambda *_: True, stats)
    text = ""
    for token, position in zip(said, positions, strict=True):
        text += written.push(token)
        attribution.token(None if position < 0 else SpanKind.SPAN, position)
    text += written.finish()
    output = text.encode()[: out if out is not None else None]
    return attribution.ripe(output, True), output, stats


def test_a_span_that_starts_and_ends_within_characters_is_trimmed():
    source = "aé雪b🦊c"
    data = source.encode()
    for begin in range(len(data)):
        for end in range(begin + 1, len(data) + 1):
            said = b"x" + data[begin:end] + b"y"
            spans, output, stats = attribute(source, said, [-1, *range(begin, end), -1])
            first, last = inwards(data, begin, end)
            assert stats.dropped == 0
            assert len(spans) == (first < last)
            for span in spans:
                assert span.text == data[first:last]
                assert output[span.byte_start : span.byte_end] == span.text
                assert output.decode()[span.char_start : span.char_end].encode() == span.text
                own = span.sources[0]
                assert source[own.char_start : own.char_end].encode() == span.text
                assert (own.byte_start, own.byte_end) == (first, last)
                assert (own.token_start, own.token_end) == (first, last)
                assert (span.token_start, span.token_end) == (1 + first - begin, 1 + last - begin)


def test_a_stop_cuts_span_and_text_at_the_same_byte():
    source = "one two three four"
    for out in range(3, 12):
        spans, output, _ = attribute(source, b"xx" + b"two three" + b"!", [-1, -1, *range(4, 13), -1], out)
        assert [s.text for s in spans] == [output[2:11]]
        assert spans[0].byte_end == min(out, 11)
    assert attribute(source, b"xxtwo", [-1, -1, 4, 5, 6], 2)[0] == []


def test_bytes_that_differ_are_not_told():
    spans, _, stats = attribute("one two three", b"one twx", list(range(7)))
    assert (spans, stats.dropped) == ([], 1)


def test_passages_and_gaps_end_a_span():
    spans, _, _ = attribute("abcdefgh", b"abcdefgh", [0, 1, 2, 3, 4, 5, 6, 7], passage_tokens=4)
    assert [s.text for s in spans] == [b"abcd", b"efgh"]
    spans, _, _ = attribute("abcdefgh", b"abcfgh", [0, 1, 2, 5, 6, 7])
    assert [(s.text, s.id) for s in spans] == [(b"abc", 0), (b"fgh", 1)]
    assert spans[1].sources[0].prefix == "abcde"
    assert spans[0].sources[0].suffix == "defgh"
