"""Texts of drafts: where they end, half characters, and bytes that repeat the prompt's end."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palimpsest.decoding.drafts import StopAt
from palimpsest.decoding.drafts.hypotheses import DraftText, Hypothesis, overlap, without_repeats
from palimpsest.engine import Finish
from tests.unit.lm.test_detokenizer import TOKENIZERS

EOS = 10**6


class TaskSteps:
    """A tokenizer whose tokens are any strings."""

    def __init__(self, pieces) -> None:
        self.pieces = list(pieces)

    def decode(self, ids, **_) -> str:
        return "".join(self.pieces[n] for n in ids)

    def convert_ids_to_tokens(self, token: int) -> str:
        return self.pieces[token]


def written(pieces, stop_at=StopAt.NONE, stops=(), healed=b"", end=None) -> DraftText:
    """A text made of pieces, up to where it ends."""
    text = DraftText(TaskSteps(pieces), frozenset({EOS}), stops, stop_at, healed)
    for number in range(len(pieces)):
        before = text.text
        text.push(number, last=end is None and number + 1 == len(pieces))
        assert text.text.startswith(before)
        if text.reason is not None:
            return text
    if end is not None:
        text.push(end, last=False)
    return text


CASES = [
    (StopAt.WORD, "  hello world", "  hello", True),
    (StopAt.WORD, "hello, you", "hello,", True),
    (StopAt.WORD, "hello", "hello", False),
    (StopAt.WORD, " \n ", " \n ", False),
    (StopAt.SENTENCE, 'He said "no." Then left. ', 'He said "no."', True),
    (StopAt.SENTENCE, "It is 3.14 or so. Yes", "It is 3.14 or so.", True),
    (StopAt.SENTENCE, "Really?! (Yes.) No", "Really?!", True),
    (StopAt.SENTENCE, "line\nbreak… more", "line\nbreak…", True),
    (StopAt.SENTENCE, "你好。世界。", "你好。", True),
    (StopAt.SENTENCE, "你好。世界. Yes", "你好。", True),
    (StopAt.SENTENCE, "他说：“好！”然后", "他说：“好！”", True),
    (StopAt.SENTENCE, "He stopped.", "He stopped.", False),
    (StopAt.LINE, "\n\n  a b. c\nd", "\n\n  a b. c", True),
    (StopAt.LINE, "a b", "a b", False),
]


@pytest.mark.parametrize(("stop_at", "text", "kept", "ended"), CASES)
@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_where_drafts_end(stop_at, text, kept, ended, size):
    found = written([text[n : n + size] for n in range(0, len(text), size)], stop_at)
    assert found.text == kept
    assert (found.reason, found.stop) == (Finish.STOP if ended else Finish.LENGTH, "")


@settings(max_examples=500, deadline=None)
@given(
    text=st.text("ab .。!”)\n", max_size=14),
    cuts=st.lists(st.integers(0, 14), max_size=6),
    stop_at=st.sampled_from(StopAt),
    stops=st.lists(st.text("ab .。", min_size=1, max_size=3), max_size=2),
)
def test_where_tokens_are_cut_makes_no_difference(text, cuts, stop_at, stops):
    places = sorted({0, len(text), *(c for c in cuts if c < len(text))})
    pieces = [text[a:b] for a, b in pairwise(places)]
    if not text:
        return
    one, other = written(list(text), stop_at, stops), written(pieces, stop_at, stops)
    assert (one.text, one.reason, one.stop) == (other.text, other.reason, other.stop)


def test_stop_strings_and_the_end_of_sequence():
    found = written(["one", " t", "wo", " three"], stops=["two"])
    assert (found.text, found.reason, found.stop) == ("one ", Finish.STOP, "two")
    found = written(["one", " t"], stops=["two"], end=EOS)  # what was held back is said after all
    assert (found.text, found.reason, found.stop) == ("one t", Finish.EOS, "")
    found = written(["one. ", "stop"], StopAt.SENTENCE, ["stop"])
    assert (found.text, found.reason, found.stop) == ("one.", Finish.STOP, "")
    found = written(["one stop. and"], StopAt.SENTENCE, ["stop"])
    assert (found.text, found.reason, found.stop) == ("one ", Finish.STOP, "stop")


def test_half_characters_wait_for_the_rest(tiny):
    ids = tiny.tokenizer("a雪b", add_special_tokens=False).input_ids
    text = DraftText(tiny.tokenizer, frozenset(), (), StopAt.NONE)
    shown = []
    for token in ids[:-1]:
        text.push(token, last=False)
        shown.append(text.text)
    assert shown == ["a", "a", "a", "a雪"]
    broken = DraftText(tiny.tokenizer, frozenset(), (), StopAt.NONE)
    for token in ids[:3]:
        broken.push(token, last=token is ids[2])
    assert (broken.text, broken.reason) == ("a\ufffd", Finish.LENGTH)


def test_copies_go_on_by_themselves():
    pieces = ["x", "sto", "p", "ry"]
    text = DraftText(TaskSteps(pieces), frozenset(), ["stop"], StopAt.NONE)
    text.push(0, False)
    text.push(1, False)
    twin = text.copy()
    text.push(2, False)
    twin.push(3, True)
    assert (text.text, text.reason) == ("x", Finish.STOP)
    assert (twin.text, twin.reason) == ("xstory", Finish.LENGTH)


@pytest.mark.parametrize(
    ("healed", "pieces", "text"),
    [
        (b" wor", [" world", " of"], "ld of"),
        (b" wor", [" wor", "ld"], "ld"),
        (b" wor", [" w", "o", "rld"], "ld"),
        (b" wor", ["world", " of"], "ld of"),  # a tokenizer that writes no space before a text's first word
        (b" w", ["w", " w"], " w"),
        (b"wor", ["world"], "ld"),
        ("né".encode(), ["née", "!"], "e!"),
        (b"", [" world"], " world"),
    ],
)
def test_healed_bytes_are_no_part_of_the_text(healed, pieces, text):
    assert written(pieces, healed=healed).text == text


def test_a_healed_word_ends_at_its_end():
    assert written([" world", " of"], StopAt.WORD, healed=b" wor").text == "ld"
    assert written([" world", " of"], stops=["wo"], healed=b" wor").text == "ld of"


@pytest.mark.parametrize("name", TOKENIZERS)
@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_texts_are_what_the_tokenizer_decodes(name, data):
    tokenizer = TOKENIZERS[name]
    ids = data.draw(st.lists(st.integers(3, len(tokenizer) - 1), min_size=1, max_size=8))
    text = DraftText(tokenizer, frozenset(), (), StopAt.NONE)
    for number, token in enumerate(ids):
        text.push(token, last=number + 1 == len(ids))
    assert text.text == tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)


def test_overlap():
    assert overlap([]) == overlap([[1, 2]]) == overlap([[], [1]]) == 0
    assert overlap([[1, 2, 3], [1, 5, 3, 4]]) == pytest.approx(2 / 3)
    assert overlap([[1, 2], [1, 2], [3, 2]]) == pytest.approx((1 + 0.5 + 0.5) / 3)


def test_drafts_are_not_changed_by_their_continuations():
    root = Hypothesis(DraftText(TaskSteps(["a", "b", "b"]), frozenset(), (), StopAt.NONE))
    one = root.grow(0, -1.0, last=False, logprob=-0.5)
    ends = [one.grow(token, -2.0, last=True, known=True) for token in (1, 2)]
    assert (root.ids, root.text.text, one.ids, one.text.text, one.done) == ((), "", (0,), "a", False)
    assert [(e.ids, e.score, e.known, e.done) for e in ends] == [((0, 1), -3, 1, True), ((0, 2), -3, 1, True)]
    assert one.quality == -0.5
    assert ends[0].quality == -1.5  # one of its tokens was not read by itself
    assert without_repeats(ends) == ends[:1]
