import pytest

from palimpsest.errors import InvalidArgument
from services.unlearning.metrics.items import (
    MUSE_TEMPLATE,
    Continuation,
    Pair,
    Prompt,
    Template,
    Text,
    continuations,
    require_items,
)

PAIR = Pair("q1", "Where is {answer}?", "over there", examples=(("Who?", "a fox"), ("What?", "a dog")))


def test_examples_come_first_and_the_prompt_ends_without_a_space():
    shown = "Question: Who?\nAnswer: a fox\n\nQuestion: What?\nAnswer: a dog\n\n"
    assert Template().prompt(PAIR) == shown + "Question: Where is {answer}?\nAnswer:"


def test_muse_asks_the_same_words_with_a_space_at_the_end():
    assert MUSE_TEMPLATE.prompt(PAIR) == Template().prompt(PAIR) + " "


@pytest.mark.parametrize(
    ("output", "answer"),
    [
        (" a fox", " a fox"),
        (" a fox\n\nQuestion: next", " a fox"),
        (" a fox\nQuestion: next", " a fox"),
        (" a fox Question: next\n\n", " a fox "),
        ("Question: again", ""),
    ],
)
def test_an_answer_ends_before_the_first_stop(output, answer):
    assert Template().cut(output) == answer


def test_scored_are_the_tokens_of_the_answer_and_no_others(tokenizer):
    made = Template().continuation(PAIR, tokenizer)
    assert tokenizer.decode(made.ids[made.start :]) == " over there"
    assert tokenizer.decode(made.ids[: made.start]) == Template().prompt(PAIR)
    other = Template(closed=True).continuation(PAIR, tokenizer, "a lazy dog")
    assert tokenizer.decode(other.ids[other.start :]) == " a lazy dog<|end|>"


def test_of_a_text_every_token_but_the_first_is_scored(tokenizer):
    (made,) = continuations([Text("t", "the quick brown fox")], tokenizer)
    assert made.start == 1
    assert tokenizer.decode(made.ids) == "the quick brown fox"


def test_a_document_is_cut_within_one_tokenization(tokenizer):
    text = Text("t", "the quick brown fox jumps over the lazy dog")
    ids = text.ids(tokenizer)
    prompt = Prompt.cut(text, tokenizer, 4, 3)
    assert prompt.prompt_ids(tokenizer) == ids[:4]
    assert prompt.continuation(tokenizer) == Continuation("t", ids[:7], 4)
    assert prompt.truth_text(tokenizer, 2) == tokenizer.decode(ids[4:6])
    with pytest.raises(InvalidArgument, match="leaves nothing to continue"):
        Prompt.cut(text, tokenizer, len(ids), 3)


@pytest.mark.parametrize(("ids", "start"), [((1,), 1), ((1, 2), 0), ((), 0), ((1, 2), 2)])
def test_a_sequence_without_a_scored_token_is_refused(ids, start):
    with pytest.raises(InvalidArgument, match="METRIC_ITEMS_INVALID"):
        Continuation("short", ids, start)


@pytest.mark.parametrize("items", [[], [Text("a", "x y"), Text("a", "z w")]])
def test_items_are_there_and_told_apart(items):
    with pytest.raises(InvalidArgument, match="METRIC_ITEMS_INVALID"):
        require_items(items, "texts")
