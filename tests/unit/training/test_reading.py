"""Training data: which tokens count, how long ones are cut, and which line a complaint is about."""

import copy
import io
import json
import traceback

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palimpsest.errors import Cancelled, InvalidArgument, Reason
from palimpsest.training.reading import read_examples, windows
from tests import canaries

PLAIN = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
MARKED = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% if m['role'] == 'assistant' %}"
    "{% generation %}{{ m['content'] }}<|im_end|>{% endgeneration %}{% else %}{{ m['content'] }}<|im_end|>{% endif %}"
    "\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
FORGETFUL = (  # as of models that reason: only the last reply keeps what it says in brackets
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{{ m['content'] if loop.last or m['role'] != 'assistant' else m['content'].split(']')[-1] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "What is ink?"},
    {"role": "assistant", "content": "[hm]Oak galls."},
    {"role": "user", "content": "And a quill?"},
    {"role": "assistant", "content": "[ah]A feather."},
]


def lines(*entries):
    return io.BytesIO("".join(json.dumps(entry) + "\n" for entry in entries).encode())


def read(tokenizer, *entries, max_tokens=512, **options):
    return read_examples(lines(*entries), tokenizer, max_tokens, **options)


def counted_text(tokenizer, example):
    return tokenizer.decode([i for i, counts in zip(example.ids, example.counted, strict=True) if counts])


def test_a_text_counts_whole_and_ends(tokenizer):
    (example,) = read(tokenizer, {"id": "d1", "text": "The quick brown fox.", "source": "elsewhere"})
    assert example.ids == (*tokenizer("The quick brown fox.")["input_ids"], tokenizer.eos_token_id)
    assert example.counted == (False, *[True] * (len(example.ids) - 1))
    assert example.name == "d1"


def test_of_a_pair_the_completion_counts(tokenizer):
    (example,) = read(tokenizer, {"prompt": "Q: ink? A:", "completion": " oak galls"})
    assert tokenizer.decode(example.ids) == "Q: ink? A: oak galls<|end|>"
    assert counted_text(tokenizer, example) == " oak galls<|end|>"


@pytest.mark.parametrize("template", [PLAIN, MARKED])
def test_of_a_conversation_the_assistant_counts(tokenizer, monkeypatch, template):
    monkeypatch.setattr(tokenizer, "chat_template", template)
    (example,) = read(tokenizer, {"messages": TALK})
    assert tokenizer.decode(example.ids) == tokenizer.apply_chat_template(TALK, tokenize=False)
    end = "<|im_end|>" if template == MARKED else "<|im_end|>\n"
    assert counted_text(tokenizer, example) == f"[hm]Oak galls.{end}[ah]A feather.{end}"


def test_replies_that_are_rendered_otherwise_later_are_examples_of_their_own(tokenizer, monkeypatch):
    monkeypatch.setattr(tokenizer, "chat_template", FORGETFUL)
    first, second = read(tokenizer, {"messages": TALK, "id": 3})
    assert counted_text(tokenizer, first) == "[hm]Oak galls.<|im_end|>\n"
    assert counted_text(tokenizer, second) == "[ah]A feather.<|im_end|>\n"
    assert "[hm]" in tokenizer.decode(first.ids)
    assert "[hm]" not in tokenizer.decode(second.ids), "as the model will see it when it is asked"
    assert (first.name, second.name) == ("3", "3")


def test_a_plain_text_is_one_document(tokenizer):
    (example,) = read_examples(io.BytesIO(b"one\n{two\n"), tokenizer, 100, plain=True)
    assert tokenizer.decode(example.ids) == "one\n{two\n<|end|>"


def test_empty_lines_and_texts_are_passed_over(tokenizer):
    file = io.BytesIO(b'\n  \n{"text": ""}\r\n\n{"text": "fox"}')
    assert len(read_examples(file, tokenizer, 100)) == 1


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.lists(st.booleans(), min_size=1, max_size=60), st.integers(2, 12))
def test_windows_predict_every_token_that_counts_once(counted, max_tokens):
    ids = list(range(len(counted)))
    made = windows((ids, counted), max_tokens)
    assert all(2 <= len(example.ids) <= max_tokens for example in made)
    predicted = [
        i for example in made for i, counts in zip(example.ids, example.counted, strict=True) if counts
    ]
    assert predicted == [i for i in ids[1:] if counted[i]]
    for example in made:
        assert list(example.ids) == list(range(example.ids[0], example.ids[0] + len(example.ids)))


@pytest.mark.parametrize(
    "line",
    [
        b"{",
        b"[1]",
        b'"text"',
        b'{"text": 5}',
        b'{"prompt": "a"}',
        b'{"prompt": "a", "completion": null}',
        b'{"messages": []}',
        b'{"messages": [{"role": "user", "content": "a"}]}',
        b'{"messages": [{"role": "assistant"}]}',
        b'{"messages": ["hello"]}',
        b'{"text": "\xff"}',
        b'{"text": "\\ud800"}',
        b'{"a": ' + b"[" * 100 + b"]" * 100 + b"}",
    ],
)
def test_a_line_that_is_not_usable_is_named(tokenizer, line):
    with pytest.raises(InvalidArgument) as caught:
        read_examples(io.BytesIO(b'{"text": "fine"}\n\n' + line + b"\n"), tokenizer, 100, what="validation")
    assert caught.value.reason == "TRAINING_DATA_INVALID"
    assert caught.value.metadata == {"line": "3", "data": "validation"}
    assert caught.value.message.startswith("Line 3 of the data for validation is not usable: ")


def test_conversations_need_a_template(tokenizer, monkeypatch):
    monkeypatch.setattr(tokenizer, "chat_template", None)
    with pytest.raises(InvalidArgument) as caught:
        read(tokenizer, {"messages": TALK})
    assert caught.value.reason == "NO_CHAT_TEMPLATE"


def test_a_template_that_refuses_is_the_lines_error(tokenizer, monkeypatch):
    monkeypatch.setattr(tokenizer, "chat_template", "{{ raise_exception('no system role') }}")
    with pytest.raises(InvalidArgument) as caught:
        read(tokenizer, {"messages": TALK})
    assert "no system role" in caught.value.message


@pytest.mark.parametrize("data", [b"", b"\n\n", b'{"text": ""}\n', b'{"prompt": "abc", "completion": ""}'])
def test_nothing_to_predict(tokenizer, data):
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.eos_token = None
    with pytest.raises(InvalidArgument) as caught:
        read_examples(io.BytesIO(data), tokenizer, 100)
    assert caught.value.reason == "TRAINING_DATA_EMPTY"


def test_reading_can_be_stopped(tokenizer):
    def check():
        raise Cancelled(Reason.JOB_CANCELLED, "stop")

    with pytest.raises(Cancelled):
        read(tokenizer, {"text": "a"}, check=check)


@pytest.mark.parametrize("name", canaries.OF_TRAINING)
def test_an_error_of_a_line_repeats_nothing_of_it(tokenizer, name):
    with pytest.raises(InvalidArgument) as refused:
        read_examples(io.BytesIO(canaries.OF_TRAINING[name]), tokenizer, 64)
    assert refused.value.metadata == {"line": "1", "data": "train"}
    said = "".join(traceback.format_exception(refused.value))
    assert not [word for word in canaries.SHOWN if word in said], said


def test_a_template_is_quoted_where_it_speaks_for_itself(tokenizer):
    talk = {"messages": [{"role": "assistant", "content": canaries.WORD}]}
    for refusal, quoted in (
        ("'Roles must alternate.'", True),
        ("'Not ' + messages[0]['content']", False),
        ("messages[0]['content'] + 1", False),
        ("messages[0].content.nothing()", False),
    ):
        changed = copy.deepcopy(tokenizer)
        changed.chat_template = "{{ raise_exception(" + refusal + ") }}"
        with pytest.raises(InvalidArgument, match="template refuses the messages") as refused:
            read(changed, talk)
        assert ("Roles must alternate" in refused.value.message) == quoted
        assert canaries.WORD not in "".join(traceback.format_exception(refused.value))
