"""Tokens named by text, characters and index, with tokenizers that keep white space and those that do not."""

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from palimpsest.errors import InvalidArgument, Reason
from palimpsest.models.tokenizers import load_tokenizer
from services.grafting.positions import Selection, Span, positions_of, read_prompt
from services.grafting.selecting import components_of, layers_of, windows_of

WORDS = ["<s>", "[UNK]", "Ada", "Lovelace", "wrote", "to", "Adam", "and"]


@pytest.fixture(scope="module")
def tokenizer(tiny_model):
    return load_tokenizer(tiny_model)


def words() -> PreTrainedTokenizerFast:
    """One token a word, without its white space, after a token that opens the text."""
    inner = Tokenizer(models.WordLevel({word: n for n, word in enumerate(WORDS)}, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.decoder = decoders.WordPiece()
    inner.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>", unk_token="[UNK]")


def refused(selection: Selection, prompt) -> InvalidArgument:
    with pytest.raises(InvalidArgument) as caught:
        positions_of(selection, prompt)
    return caught.value


def test_a_text_is_the_tokens_that_make_it_up():
    prompt = read_prompt(words(), "Ada wrote to Adam and Ada Lovelace")
    assert prompt.tokens == ["", "Ada", "wrote", "to", "Adam", "and", "Ada", "Lovelace"]
    for span, expected in (
        (Span("Ada Lovelace"), (6, 7)),
        (Span("wrote"), (2,)),
        (Span(" wrote "), (2,)),
        (Span("Ada", 3), (6,)),
        (Span(first=4, stop=12), (2, 3)),
    ):
        assert positions_of(Selection((span,)), prompt) == expected


def test_a_text_that_is_not_exactly_there_is_told_apart():
    prompt = read_prompt(words(), "Ada wrote to Adam and Ada Lovelace")
    assert refused(Selection((Span("Ada"),)), prompt).reason == Reason.SPAN_AMBIGUOUS
    assert refused(Selection((Span("Ada"),)), prompt).metadata["occurrences"] == "3"
    split = refused(Selection((Span("Ada", 2),)), prompt)
    assert (split.reason, split.metadata["position"]) == (Reason.SPAN_SPLITS_TOKEN, "4")
    for span in (Span("Byron"), Span("Ada", 4), Span(first=3, stop=99), Span(first=5, stop=5), Span(" ", 1)):
        assert refused(Selection((span,)), prompt).reason == Reason.SPAN_NOT_FOUND


def test_indices_and_complements():
    prompt = read_prompt(words(), "Ada wrote to Adam")
    assert positions_of(Selection(indices=(0, -1, 4)), prompt) == (0, 4)
    assert positions_of(Selection((Span("wrote"),), (-1,), complement=True), prompt) == (0, 1, 3)
    assert positions_of(Selection(everything=True), prompt) == tuple(range(5))
    assert refused(Selection(), prompt).reason == Reason.EMPTY_GRAFT
    assert refused(Selection(everything=True, complement=True), prompt).reason == Reason.EMPTY_GRAFT
    for index in (5, -6):
        assert refused(Selection(indices=(index,)), prompt).reason == Reason.POSITION_OUT_OF_RANGE


def test_tokens_with_leading_white_space_belong_to_their_word(tokenizer):
    prompt = read_prompt(tokenizer, "the lazy dog and the quick fox")
    found = positions_of(Selection((Span("quick"),)), prompt)
    assert "".join(prompt.tokens[n] for n in found).strip() == "quick"


def test_a_character_of_several_tokens_is_all_of_them(tokenizer):
    text = "a 🦊 ran, the \u202efox\u202c too"
    prompt = read_prompt(tokenizer, text)
    fox = positions_of(Selection((Span("🦊"),)), prompt)
    assert len(fox) > 1
    assert all(text[slice(*prompt.ranges[n])].strip() == "🦊" for n in fox)
    assert positions_of(Selection((Span("\u202e"),)), prompt)
    with pytest.raises(InvalidArgument):
        read_prompt(tokenizer, "")


def test_components_and_layers_are_those_of_the_architecture():
    assert components_of((), has_gate=False)[-2:] == ("up", "down")
    assert "gate" in components_of(("ffn",), has_gate=True)
    assert components_of(("down", "ffn", "o"), has_gate=True) == ("o", "gate", "up", "down")
    assert len(components_of(("all",), has_gate=True)) == 12
    assert list(layers_of(2, 0, 4)) == [2, 3]
    assert windows_of(3, 2, 6) == [range(0, 3), range(2, 5), range(4, 6)]
    assert windows_of(0, 0, 2) == [range(0, 1), range(1, 2)]
    for call in (
        lambda: components_of(("gate",), has_gate=False),
        lambda: components_of(("mlp",), has_gate=True),
    ):
        with pytest.raises(InvalidArgument) as caught:
            call()
        assert caught.value.reason == Reason.COMPONENT_OUT_OF_RANGE
