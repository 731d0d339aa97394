"""``/tokenize``, ``/detokenize``, ``/tokenizer_info``, ``/apply-template``, as in vLLM's and llama.cpp's servers."""

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from palimpsest.api.decoding.v1 import decoding_pb2 as pb
from services.gateway.bodies import Body, read
from services.gateway.calls import rooms_of, settings_of
from services.gateway.errors import bad
from services.gateway.text.generation import model_of
from services.gateway.text.messages import Message, Tool, chat_of, tools_of
from services.gateway.text.pieces import shown


class TokenizeBody(Body):
    """A text (``prompt``; llama.cpp's clients call it ``content``) or a conversation."""

    model: str | None = None
    prompt: str | None = None
    content: str | None = None
    messages: list[Message] | None = None
    tools: list[Tool] | None = None
    add_special_tokens: bool = True
    add_generation_prompt: bool = True
    return_token_strs: bool = False
    with_pieces: bool = False


class DetokenizeBody(Body):
    """Token ids."""

    model: str | None = None
    tokens: list[int]


class ApplyTemplateBody(Body):
    """A conversation."""

    model: str | None = None
    messages: list[Message]
    tools: list[Tool] | None = None
    add_generation_prompt: bool = True


async def tokenize(request: Request) -> Response:
    """``POST /tokenize``."""
    body = await read(request, TokenizeBody)
    given = {name: getattr(body, name) for name in ("prompt", "content", "messages")}
    if sum(each is not None for each in given.values()) != 1:
        raise bad("prompt", "Send either prompt or messages.", "missing_required_parameter")
    if body.messages is None and body.tools:
        raise bad("tools", "tools goes with messages.")
    pieces = body.return_token_strs or body.with_pieces
    model = await _model(request, body.model)
    text = body.prompt if body.content is None else body.content
    if text == "":
        return JSONResponse({"count": 0, "tokens": []})
    fields: dict[str, Any] = {"text": text, "no_special_tokens": not body.add_special_tokens}
    if body.messages is not None:
        fields = _conversation(body.messages, body.tools, body.add_generation_prompt)
    found = await rooms_of(request).decoding.tokenize(model=model, pieces=pieces, **fields)
    tokens: list[Any] = list(found.ids)
    if body.with_pieces:
        tokens = [
            {"id": token, "piece": _piece(piece)}
            for token, piece in zip(found.ids, found.pieces, strict=True)
        ]
    answer = {"count": len(tokens), "max_model_len": found.context_length, "tokens": tokens}
    if body.return_token_strs:
        answer["token_strs"] = [shown(piece) for piece in found.pieces]
    return JSONResponse(answer)


async def detokenize(request: Request) -> Response:
    """``POST /detokenize``."""
    body = await read(request, DetokenizeBody)
    if any(not 0 <= each < 1 << 32 for each in body.tokens):
        raise bad("tokens", "A token id is not in the vocabulary.")
    model = await _model(request, body.model)
    found = await rooms_of(request).decoding.detokenize(model=model, ids=body.tokens)
    return JSONResponse({"prompt": found.text, "content": found.text})


async def tokenizer_info(request: Request) -> Response:
    """``GET /tokenizer_info?model=...``; a token that the tokenizer does not have is null."""
    model = await _model(request, request.query_params.get("model"))
    found = await rooms_of(request).decoding.get_tokenizer(model=model)
    return JSONResponse({"model": model, **info_of(found)})


async def apply_template(request: Request) -> Response:
    """``POST /apply-template``: the text that a conversation is to its model."""
    body = await read(request, ApplyTemplateBody)
    model = await _model(request, body.model)
    fields = _conversation(body.messages, body.tools, body.add_generation_prompt)
    found = await rooms_of(request).decoding.tokenize(model=model, **fields)
    return JSONResponse({"prompt": found.text})


def info_of(found: pb.Tokenizer) -> dict[str, Any]:
    """A tokenizer in the words of transformers."""
    return {
        "tokenizer_class": found.tokenizer_class,
        "vocab_size": found.vocab_size,
        "model_max_length": found.context_length,
        "bos_token": found.bos_token or None,
        "eos_token": found.eos_token or None,
        "pad_token": found.pad_token or None,
        "unk_token": found.unk_token or None,
        "add_bos_token": found.adds_special_tokens,
        "chat_template": found.chat_template or None,
        "roles": list(found.roles),
        "takes_tools": found.takes_tools,
    }


def _conversation(messages: list[Message], tools: list[Tool] | None, opening: bool) -> dict[str, Any]:
    return {"chat": chat_of(messages), "tools": tools_of(tools or []), "no_generation_prompt": not opening}


def _piece(piece: bytes) -> str | list[int]:
    """A piece as llama.cpp writes it: bytes where it is no text."""
    try:
        return piece.decode()
    except UnicodeDecodeError:
        return list(piece)


async def _model(request: Request, asked: str | None) -> str:
    return await model_of(rooms_of(request), asked, settings_of(request).model)
