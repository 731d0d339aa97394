"""Whose tokens are whose in templates of several kinds, against what transformers' own rendering says."""

from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from palimpsest.errors import InvalidArgument, Reason
from services.grafting.chats import Message, Role
from services.grafting.positions import Selection, positions_of, read_chat, read_prompt

CHATML = (
    "{% for m in messages %}{% if loop.first and m['role'] != 'system' %}<|a|>system\nBe kind<|b|>\n{% endif %}"
    "<|a|>{{ m['role'] }}\n{{ m['content'] }}<|b|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|a|>assistant\n{% endif %}"
)
INSTRUCT = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no system') }}"
    "{% elif m['role'] == 'user' %}[INST] {{ m['content'] | trim }} [/INST]"
    "{% else %} {{ m['content'] | trim }} <|b|>{% endif %}{% endfor %}"
)
HEADERS = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' and messages | length == 1 %}"
    "{{ raise_exception('say something') }}{% endif %}"
    "{% for m in messages %}<|a|>{{ m['role'] }}<|c|>\n\n{{ m['content'] | trim }}<|b|>{% endfor %}"
    "{% if add_generation_prompt %}<|a|>assistant<|c|>\n\n{% endif %}"
)
TALK = [
    Message("system", "You know films."),
    Message("user", "Who keeps the house?"),
    Message("assistant", "Nobody does."),
    Message("user", "Who keeps the house? Look again"),
]


def tokenizer(template: str | None) -> Any:
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    special = ["<s>", "<|a|>", "<|b|>", "<|c|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator(["Who keeps the house? user system assistant"] * 5, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<s>", eos_token="<|b|>")
    fast.chat_template = template
    return fast


def said(own: Any, messages: list[Message], *roles: Role, complement: bool = False) -> str:
    """The text of the selected tokens."""
    prompt = read_chat(own, messages)
    at = positions_of(Selection(roles=roles, complement=complement), prompt)
    return "".join(prompt.text[slice(*prompt.ranges[n])] for n in at)


@pytest.mark.parametrize("template", [CHATML, HEADERS])
def test_every_part_of_every_message_is_found(template: str):
    own = tokenizer(template)
    for number, message in enumerate([m for m in TALK if m.role == "user"], 1):
        assert said(own, TALK, Role("user", number)) == message.content
    last = said(own, TALK, Role("user", -1, "last"))
    assert TALK[-1].content.endswith(last)
    assert len(own(last)["input_ids"]) == 1
    assert said(own, TALK, Role("system")) == "You know films."
    ends = "<|b|>\n" if template is CHATML else "<|b|>"
    begins = "<|a|>{}\n" if template is CHATML else "<|a|>{}<|c|>\n\n"
    for message in TALK[:3]:
        role, header = message.role, begins.format(message.role)
        assert said(own, TALK, Role(role, 1, "header")) == header
        assert said(own, TALK, Role(role, 1, "whole")) == header + message.content + ends
    assert said(own, TALK, Role("assistant", 1, "footer")) == ends
    assert said(own, TALK, Role("generation")) == begins.format("assistant")


@pytest.mark.parametrize("template", [CHATML, HEADERS, INSTRUCT])
def test_parts_are_the_whole_text_each_token_once(template: str):
    own = tokenizer(template)
    talk = TALK if template is not INSTRUCT else TALK[1:]
    prompt = read_chat(own, talk)
    assert prompt.text == own.apply_chat_template(
        [m._asdict() for m in talk], tokenize=False, add_generation_prompt=True
    )
    ids = own.apply_chat_template([m._asdict() for m in talk], add_generation_prompt=True)["input_ids"]
    assert list(prompt.ids) == ids
    assert prompt.chat is not None
    ends = [0, prompt.chat.opening]
    for turn in prompt.chat.turns:
        assert turn.header == ends[-1]
        assert turn.header <= turn.content <= turn.footer <= turn.stop
        ends.append(turn.stop)
    assert prompt.chat.generation == ends[-1]
    assert [prompt.text[t.content : t.footer] for t in prompt.chat.turns] == [m.content for m in talk]


def test_what_the_template_says_by_itself_is_the_opening():
    own = tokenizer(CHATML)
    assert said(own, TALK[1:], Role("opening")) == "<|a|>system\nBe kind<|b|>\n"
    assert said(own, TALK[1:], Role("user", 1, "header")) == "<|a|>user\n"
    assert said(tokenizer(HEADERS), TALK, Role("opening")) == "<s>"
    whole = said(own, TALK[1:], Role("opening"), complement=True)
    assert whole == read_chat(own, TALK[1:]).text.removeprefix("<|a|>system\nBe kind<|b|>\n")


def test_a_template_of_brackets_has_them_as_header_and_footer():
    own = tokenizer(INSTRUCT)
    assert said(own, TALK[1:], Role("user", 2, "header")).strip() == "[INST]"
    assert said(own, TALK[1:], Role("user", 1, "footer")).strip() == "[/INST]"
    with pytest.raises(InvalidArgument) as caught:
        said(own, TALK[1:], Role("generation"))
    assert caught.value.reason == Reason.SPAN_NOT_FOUND


def test_contents_that_look_like_the_template_are_contents():
    own = tokenizer(CHATML)
    talk = [Message("user", "<|a|>assistant\nno<|b|>\n"), Message("user", "user")]
    assert said(own, talk, Role("user", 1)) == talk[0].content
    assert said(own, talk, Role("user", 2)) == "user"


BAD: dict[str, tuple[str | None, list[Message], Role, Reason]] = {
    "no template": (None, TALK, Role("user"), Reason.NO_CHAT_TEMPLATE),
    "a role that the template refuses": (INSTRUCT, TALK, Role("user"), Reason.CHAT_INVALID),
    "contents that are changed": (
        CHATML.replace("m['content']", "m['content'] | upper"), TALK, Role("user"), Reason.CHAT_INVALID,
    ),
    "a message that is left out": ("{{ messages[-1]['content'] }}", TALK, Role("user"), Reason.CHAT_INVALID),
    "a role that says nothing": (CHATML, TALK[1:], Role("system"), Reason.SPAN_NOT_FOUND),
    "a message too many": (CHATML, TALK, Role("user", 3), Reason.SPAN_NOT_FOUND),
    "a message too many from the end": (CHATML, TALK, Role("user", -3), Reason.SPAN_NOT_FOUND),
    "an empty message": (CHATML, [Message("user", "")], Role("user"), Reason.SPAN_NOT_FOUND),
    "a part of no message": (CHATML, TALK, Role("generation", 0, "header"), Reason.INVALID_REQUEST),
    "a number of no message": (CHATML, TALK, Role("opening", 1), Reason.INVALID_REQUEST),
}  # fmt: skip


@pytest.mark.parametrize("name", list(BAD))
def test_roles_that_are_not_there_are_errors(name: str):
    template, talk, role, reason = BAD[name]
    with pytest.raises(InvalidArgument) as caught:
        said(tokenizer(template), talk, role)
    assert caught.value.reason == reason
    assert caught.value.violations


def test_a_plain_prompt_has_no_roles():
    own = tokenizer(CHATML)
    with pytest.raises(InvalidArgument) as caught:
        positions_of(Selection(roles=(Role("user"),)), read_prompt(own, "Who keeps the house?"))
    assert caught.value.reason == Reason.INVALID_REQUEST
    assert "chat" in str(caught.value)
