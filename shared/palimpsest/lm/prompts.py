"""Prompts to token ids, with the model's own tokenizer and chat template."""

from collections.abc import Mapping, Sequence
from typing import Any

from palimpsest.errors import InvalidArgument, Reason
from palimpsest.lm.chat_templates import render_chat
from palimpsest.models.tokenizers import failing_as_model


def encode_text(tokenizer: Any, text: str, field: str = "prompt", special_tokens: bool = True) -> list[int]:
    """Token ids of raw text, with the tokenizer's opening special tokens unless the text continues another.

    Raises
    ------
    InvalidArgument
        PROMPT_EMPTY.
    FailedPrecondition
        MODEL_INVALID: the tokenizer fails on it.
    """
    if not text:
        raise InvalidArgument.field(
            Reason.PROMPT_EMPTY, field, f"{field} is empty; send some text, a chat, or token ids."
        )
    with failing_as_model():
        return list(tokenizer(text, add_special_tokens=special_tokens)["input_ids"])


def encode_chat(
    tokenizer: Any, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] = ()
) -> list[int]:
    """Token ids of a conversation in the model's chat template, with the reply's opening added.

    Parameters and errors are those of :func:`~palimpsest.lm.chat_templates.render_chat`.
    """
    text = render_chat(tokenizer, messages, tools)
    with failing_as_model():
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])
