"""Texts to tokens and back, and what a model's tokenizer is."""

from palimpsest.api.decoding.v1 import decoding_pb2 as pb
from palimpsest.engine import Hosted
from palimpsest.errors import InvalidArgument, Reason
from palimpsest.lm import CallForm, encode_text, render_chat
from palimpsest.lm.chat_templates import NO_TEMPLATE, facts_of, template_of
from palimpsest.models.tokenizers import failing_as_model
from services.decoding.conversations import chat_of, tools_of
from services.decoding.generation import require_known

_FORMS = {
    CallForm.UNKNOWN: pb.Tokenizer.TOOL_CALLS_UNSPECIFIED,
    CallForm.TAGGED: pb.Tokenizer.TOOL_CALLS_TAGGED,
    CallForm.BARE: pb.Tokenizer.TOOL_CALLS_BARE,
    CallForm.LIST: pb.Tokenizer.TOOL_CALLS_LIST,
}


def tokenized(request: pb.TokenizeRequest, hosted: Hosted) -> pb.TokenizeResponse:
    """The tokens of a text or a conversation.

    Raises
    ------
    InvalidArgument
        PROMPT_EMPTY; INVALID_REQUEST: tools without a conversation; or what ``render_chat`` refuses one for.
    """
    text, special = "", not request.no_special_tokens
    if request.WhichOneof("input") == "chat":
        opening = not request.no_generation_prompt
        text = render_chat(hosted.tokenizer, chat_of(request.chat), tools_of(request.tools), opening)
        special = False  # a template writes its own
    elif request.tools:
        raise InvalidArgument.field(Reason.INVALID_REQUEST, "tools", "tools go with chat alone.")
    ids = encode_text(hosted.tokenizer, text or request.text, "text", special)
    return pb.TokenizeResponse(
        ids=ids,
        pieces=[hosted.token_bytes(each) for each in ids] if request.pieces else (),
        text=text,
        context_length=hosted.engine.model.limits.context_length,
    )


def detokenized(request: pb.DetokenizeRequest, hosted: Hosted) -> pb.DetokenizeResponse:
    """The text of tokens.

    Raises
    ------
    InvalidArgument
        TOKEN_ID_OUT_OF_RANGE.
    """
    ids = list(request.ids)
    require_known(hosted, ids)
    with failing_as_model():
        text = hosted.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    return pb.DetokenizeResponse(
        text=text, pieces=[hosted.token_bytes(each) for each in ids] if request.pieces else ()
    )


def described(hosted: Hosted) -> pb.Tokenizer:
    """What a client has to know of a tokenizer."""
    tokenizer, limits = hosted.tokenizer, hosted.engine.model.limits
    template = template_of(tokenizer)
    facts = facts_of(template) if template else NO_TEMPLATE
    with_tools = facts_of(template_of(tokenizer, tools=True)) if template else NO_TEMPLATE
    with failing_as_model():
        special = len(tokenizer("a")["input_ids"]) > len(
            tokenizer("a", add_special_tokens=False)["input_ids"]
        )
    return pb.Tokenizer(
        tokenizer_class=type(tokenizer).__name__,
        vocab_size=limits.vocab_size,
        context_length=limits.context_length,
        **{
            name: str(value)
            for name in ("bos_token", "eos_token", "pad_token", "unk_token")
            if (value := getattr(tokenizer, name, None))
        },
        adds_special_tokens=special,
        chat_template=template,
        roles=facts.roles,
        takes_tools=with_tools.takes_tools,
        tool_calls=_FORMS[with_tools.calls],
    )
