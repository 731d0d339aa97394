"""What a request demands of single tokens and of the form of its text, between the contract and the engine."""

from collections.abc import Iterable
from typing import Any

from palimpsest.api.decoding.v1 import decoding_pb2 as pb
from palimpsest.errors import InvalidArgument, Reason
from palimpsest.lm.constraints.forms import Form
from palimpsest.models.tokenizers import failing_as_model

_SAMPLING = ("repetition_penalty", "presence_penalty", "frequency_penalty", "logit_bias")
_REQUEST = ("min_tokens", "stop_token_ids", "bad_words", "structured")


def refuse_constraints(message: pb.GenerateRequest | pb.DraftRequest, place: str) -> None:
    """Refuse a request that penalises, forbids or demands tokens, where that cannot be honoured.

    Parameters
    ----------
    message
        The caller's request.
    place
        What cannot honour them, such as "Draft".

    Raises
    ------
    InvalidArgument
        SETTING_UNSUPPORTED, with the first field.
    """
    given = {field.name for field, _ in message.ListFields()}
    given_sampling = {field.name for field, _ in message.sampling.ListFields()}
    names = [f"sampling.{name}" for name in _SAMPLING if name in given_sampling]
    names += [name for name in _REQUEST if name in given]
    for name in names:
        raise InvalidArgument.field(
            Reason.SETTING_UNSUPPORTED, name, f"{place} does not support {name}; leave it out."
        )


def bad_word_ids(tokenizer: Any, words: Iterable[str]) -> tuple[tuple[int, ...], ...]:
    """Tokens of forbidden words: each as it stands, and after a space.

    Raises
    ------
    InvalidArgument
        BAD_WORD_EMPTY.
    FailedPrecondition
        MODEL_INVALID: the tokenizer fails on one.
    """
    found: list[tuple[int, ...]] = []
    for word in words:
        if not word.strip():
            raise InvalidArgument.field(
                Reason.BAD_WORD_EMPTY, "bad_words", "A bad word is empty; leave it out."
            )
        with failing_as_model():
            for text in (word, " " + word.lstrip()):
                found.append(tuple(tokenizer(text, add_special_tokens=False)["input_ids"]))
    return tuple(dict.fromkeys(ids for ids in found if ids))


def form_of(message: pb.StructuredOutput) -> Form:
    """The form that a message asks for.

    Raises
    ------
    InvalidArgument
        STRUCTURED_INVALID: it names none.
    """
    match message.WhichOneof("form"):
        case "choice":
            return Form("choice", tuple(message.choice.texts))
        case "json_schema":
            return Form("json_schema", (message.json_schema,))
        case "regex":
            return Form("regex", (message.regex,))
        case "grammar":
            return Form("grammar", (message.grammar,))
        case _:
            raise InvalidArgument.field(
                Reason.STRUCTURED_INVALID,
                "structured",
                "structured names no form; give json_schema, regex, grammar or choice.",
            )
