"""Prompts to token ids, with the model's own tokenizer and chat template."""

from collections.abc import Mapping, Sequence
from typing import Any

from palimpsest.errors import InvalidArgument, PalimpsestError, Reason
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


def encode_chat(tokenizer: Any, messages: Sequence[Mapping[str, str]]) -> list[int]:
    """Token ids of a conversation in the model's chat template, with the reply's opening added.

    Raises
    ------
    InvalidArgument
        NO_CHAT_TEMPLATE, or CHAT_INVALID where the template refuses the messages, or fails.
    FailedPrecondition
        MODEL_INVALID: the tokenizer fails on what the template gives.
    """
    if not getattr(tokenizer, "chat_template", None):
        raise InvalidArgument.field(
            Reason.NO_CHAT_TEMPLATE, "chat", "This model has no chat template; send a prompt instead."
        )
    try:
        with failing_as_model():
            encoded = tokenizer.apply_chat_template(
                [dict(m) for m in messages], add_generation_prompt=True, tokenize=True, return_dict=True
            )
    except PalimpsestError:
        raise
    except Exception as error:  # a template is a program of the model's, and may fail in any way
        raise InvalidArgument.field(
            Reason.CHAT_INVALID, "chat.messages", f"The model's chat template refuses these messages: {error}"
        ) from error
    return list(encoded["input_ids"])
