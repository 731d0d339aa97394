"""Text as it becomes certain: against decoding the whole, for several kinds of tokenizers."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from palimpsest.lm.detokenizer import Detokenizer, StopMatcher

TEXT = "The quick brown fox jumps over the lazy dog. Wie schön, daß es 雪 und 🦊 gibt!\n\tdef f(x): return x  # ok\n"


def sentencepiece_like() -> PreTrainedTokenizerFast:
    """Metaspace and byte fallback, as Llama 2 and Gemma have."""
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{b:02X}>" for b in range(256))]
    words = ["▁", "▁the", "▁fox", "▁a", "the", "fox", "e", "t", "h", "o", "x", "f", "ö", "!", "▁▁"]
    vocab = {piece: n for n, piece in enumerate([*pieces, *words])}
    tokenizer = Tokenizer(models.BPE(vocab, [], unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence(steps)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )


def byte_level() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(
        vocab_size=330,
        special_tokens=["<|end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([TEXT * 5], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>")


TOKENIZERS = {"byte-level": byte_level(), "sentencepiece": sentencepiece_like()}


def whole(tokenizer, ids):
    return tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)


def pieces_of(tokenizer, ids):
    detokenizer = Detokenizer(tokenizer)
    pieces = [detokenizer.push(token) for token in ids]
    return [*pieces, detokenizer.finish()]


@pytest.mark.parametrize("name", TOKENIZERS)
@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_any_ids_add_up_to_the_whole(name, data):
    tokenizer = TOKENIZERS[name]
    ids = data.draw(st.lists(st.integers(0, len(tokenizer) - 1), max_size=40))
    assert "".join(pieces_of(tokenizer, ids)) == whole(tokenizer, ids)


@settings(max_examples=200, deadline=None)
@given(text=st.text(max_size=60))
def test_text_comes_back_in_whole_characters(text):
    tokenizer = TOKENIZERS["byte-level"]
    pieces = pieces_of(tokenizer, tokenizer.encode(text, add_special_tokens=False))
    assert "".join(pieces) == text
    if "\ufffd" not in text:
        assert not any("\ufffd" in piece for piece in pieces)


def test_nothing_waits_longer_than_it_must():
    tokenizer = TOKENIZERS["byte-level"]
    detokenizer = Detokenizer(tokenizer)
    for token in tokenizer.encode("plain words"):
        assert detokenizer.push(token)
    *head, last = tokenizer.encode("雪", add_special_tokens=False)
    assert all(detokenizer.push(token) == "" for token in head)
    assert detokenizer.push(last) == "雪"


@pytest.fixture(scope="module")
def sample_tokenizer(sample_model):
    return AutoTokenizer.from_pretrained(sample_model)


@pytest.mark.model
@settings(max_examples=100, deadline=None)
@given(ids=st.lists(st.integers(0, 49151), max_size=30), text=st.text(max_size=80))
def test_the_sample_models_tokenizer(ids, text, sample_tokenizer):
    tokenizer = sample_tokenizer
    assert "".join(pieces_of(tokenizer, ids)) == whole(tokenizer, ids)
    encoded = tokenizer.encode(text)
    assert "".join(pieces_of(tokenizer, encoded)) == whole(tokenizer, encoded)


def reference_stop(text: str, stops: list[str]) -> tuple[str, str | None]:
    """Character by character: the first stop to be complete, and of several the longest."""
    for end in range(1, len(text) + 1):
        found = [s for s in stops if text[:end].endswith(s)]
        if found:
            stop = max(found, key=len)
            return text[: end - len(stop)], stop
    return text, None


ABC = st.text(alphabet="ab雪🦊", max_size=20)


@settings(max_examples=500, deadline=None)
@given(
    pieces=st.lists(ABC, max_size=8),
    stops=st.lists(ABC.filter(bool).map(lambda s: s[:5]), min_size=1, max_size=4),
)
def test_stops_do_not_depend_on_how_text_is_cut(pieces, stops):
    matcher, out, stop = StopMatcher(stops), "", None
    for piece in pieces:
        text, stop = matcher.push(piece)
        out += text
        expected = reference_stop("".join(pieces), stops)[0]
        assert expected.startswith(out), "text was given out that a stop takes back"
        if stop is not None:
            break
    if stop is None:
        out += matcher.finish()
    assert (out, stop) == reference_stop("".join(pieces), stops)
