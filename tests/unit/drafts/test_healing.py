"""Prompts that end within a word: what is taken back, and drafts that go on exactly where the prompt ends."""

import random

import pytest

from palimpsest.decoding.drafts import DraftSettings, DraftStrategy, StopAt
from palimpsest.decoding.drafts.healing import MOST_TOKENS, Vocabulary, heal
from palimpsest.decoding.drafts.hypotheses import DraftText
from palimpsest.lm import Sampling, TokenBytes
from palimpsest.lm.token_bytes import special_ids
from tests.unit.lm.test_detokenizer import TOKENIZERS

from .running import prompt, run, wanted

WORDS = [b" f", b"oo", b" foo", b" food", b" fool", b" foot", b"o", b"od", b"ods", b"b", b"ar", b" a", b"", b"\n", b".",
         b" foo", b"\xc3", b"\xa9", b"\xa9e", b"e", b"\xc3\xa9e", b"\xc3\xa9es", b"\xc3\xa9el", b"<s>"]  # fmt: skip
F, OO, FOO, FOOD, AN_O, B, A, NL, DOT, HALF, REST, REST_E, E, START = (
    0,
    1,
    2,
    3,
    6,
    9,
    11,
    13,
    14,
    16,
    17,
    18,
    19,
    23,
)


def made(words=WORDS, special=(START,)) -> Vocabulary:
    return Vocabulary(len(words), lambda token: words[token], frozenset(special))


def vocabulary_of(model) -> Vocabulary:
    special = special_ids(model.tokenizer)
    return Vocabulary(model.vocab_size, TokenBytes(model.tokenizer), special)


def test_tokens_by_their_beginning():
    vocabulary = made()
    assert vocabulary.starting_with(b" foo").tolist() == [2, 3, 4, 5, 15]
    assert vocabulary.starting_with(b"o").tolist() == [OO, AN_O, 7, 8]
    assert vocabulary.starting_with(b"\xc3\xa9").tolist() == [20, 21, 22]
    assert vocabulary.starting_with(b"zz").tolist() == []
    assert vocabulary.starting_with(b"<s").tolist() == []


@pytest.mark.parametrize(
    ("ids", "left", "taken", "allowed"),
    [
        ([START, A, FOO], [START, A], b" foo", [2, 3, 4, 5, 15]),
        ([START, A, F, OO], [START, A], b" foo", [2, 3, 4, 5, 15]),
        ([A, F, OO, AN_O], [A, F, OO], b"o", [OO, AN_O, 7, 8]),  # nothing begins with " fooo"
        ([A, FOOD], [A], b" food", [FOOD]),  # the last token alone, few as they are
        ([START, B, 10], [START, B], b"ar", [10]),  # "bar" is no token, nor is anything longer
        ([A, F, OO, NL], None, b"", []),
        ([A, DOT], None, b"", []),
        ([FOO], None, b"", []),
        ([], None, b"", []),
        ([START, START], None, b"", []),
        ([A, HALF, REST], None, b"", []),  # " a" and "é", which no token begins with
        ([START, B, HALF, REST_E], [START, B], b"\xc3\xa9e", [20, 21, 22]),  # never from within the é on
        ([A, HALF], None, b"", []),
        ([A, REST], None, b"", []),
    ],
)
def test_what_is_taken_back(ids, left, taken, allowed):
    words = list(WORDS)
    if ids == [A, HALF, REST]:
        words[20:23] = [b"x", b"y", b"z"]
    healed = heal(ids, made(words))
    if left is None:
        assert healed is None
    else:
        assert (healed.ids, healed.taken, healed.allowed.tolist()) == (left, taken, allowed)


def test_a_character_is_not_cut_though_few_tokens_go_on_from_it():
    words = list(WORDS)
    words[21] = words[22] = b"x"
    healed = heal([START, B, HALF, REST_E], made(words))
    assert (healed.ids, healed.taken, healed.allowed.tolist()) == ([START, B], b"\xc3\xa9e", [20])


def test_long_words_are_taken_back_in_part():
    words = [b"a" * n for n in range(1, 20)]
    healed = heal([0] * 30, made(words, ()))
    assert healed.ids == [0] * (30 - MOST_TOKENS)
    assert healed.taken == b"a" * MOST_TOKENS


@pytest.mark.parametrize("name", TOKENIZERS)
def test_texts_follow_the_prompt(name):
    """Whatever comes after: prompt and draft together are what the tokens say."""
    tokenizer = TOKENIZERS[name]
    special = special_ids(tokenizer)
    vocabulary = Vocabulary(len(tokenizer), TokenBytes(tokenizer), special)
    chance, healings = random.Random(3), 0

    def decode(ids) -> str:
        return tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)

    # Bytes that are no characters would spoil those beside them, one way in each text.
    plain = [t for t in range(len(tokenizer)) if t not in special and vocabulary.write(t).isascii()]
    for text in (
        "the fox",
        "the fo",
        "a the f",
        "fox the ö",
        "the fö",
        "a th",
        "The qui",
        "over the laz",
        "schö",
    ):
        ids = tokenizer(text).input_ids
        healed = heal(ids, vocabulary)
        if healed is None:
            continue
        assert decode(ids) == text
        for first in healed.allowed.tolist():
            following = [first, *chance.choices(plain, k=chance.randrange(4))]
            draft = DraftText(tokenizer, frozenset(), (), StopAt.NONE, healed.taken)
            for number, token in enumerate(following, 1):
                draft.push(token, last=number == len(following))
            assert text + draft.text == decode([*healed.ids, *following])
            healings += 1
    assert healings > 10


@pytest.mark.parametrize("strategy", list(DraftStrategy))
@pytest.mark.parametrize("text", ["the quick brown fo", "jumps ov", "the lazy d", "Fixtures every ki"])
def test_drafts_spell_the_word_on(tiny, strategy, text):
    vocabulary = vocabulary_of(tiny)
    healed = heal(prompt(tiny, text), vocabulary)
    plan = {"healed": healed.taken, "allowed": healed.allowed}
    chosen = DraftSettings(k=4, strategy=strategy)
    (told,) = run(tiny, wanted(healed.ids, chosen, 5, plan, sampling=Sampling(1.0, seed=3)))
    assert told.drafts
    for draft in told.drafts:
        assert draft.ids[0] in healed.allowed
        assert vocabulary.write(draft.ids[0]).startswith(healed.taken)
        whole = tiny.tokenizer.decode([*healed.ids, *draft.ids], skip_special_tokens=True)
        assert whole == text + draft.text
        assert told.rebuilt()[draft.slot] == (draft.text, draft.ids)
