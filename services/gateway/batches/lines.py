"""The lines of a batch's input: from OpenAI's form to that of ``GenerateBatch``, by the endpoints' own bodies."""

from typing import Any, Literal, cast

from palimpsest import json_input
from services.gateway.bodies import Body, checked
from services.gateway.endpoints.chat import ChatBody
from services.gateway.endpoints.completions import CompletionsBody, check
from services.gateway.errors import ApiError, bad, unsupported
from services.gateway.text.fields import TextFields
from services.gateway.text.messages import chat_of
from services.gateway.text.prompts import prompts_of

Json = dict[str, Any]
Endpoint = Literal["/v1/chat/completions", "/v1/completions"]
LARGEST_LINE = 16 << 20
"""Maximum length of a line, in bytes; the contract's."""
_LONGEST_ID = 512
_ROLES = ("system", "user", "assistant")
_ALONE = ("context", "nest", "cache_salt", "ignore_eos")
"""Fields of a request that a line of ``GenerateBatch`` does not have."""
_CALLED = {"nest": "corpora"}


class BatchLine(Body):
    """One request of a batch."""

    custom_id: str
    method: Literal["POST"]
    url: Literal["/v1/chat/completions", "/v1/completions"]
    body: Json


def parsed(line: bytes, endpoint: str) -> BatchLine:
    """Parse a line.

    Parameters
    ----------
    line
        One JSON object.
    endpoint
        The batch's, which is that of all its lines.

    Raises
    ------
    ApiError
        400: it is none, or not a request to this endpoint.
    """
    try:
        value = json_input.decode(line, max_bytes=LARGEST_LINE)
    except json_input.InvalidJson as error:
        raise ApiError(400, f"The line is not usable JSON: {error}.", code="invalid_json_line") from None
    if not isinstance(value, dict):
        raise ApiError(400, "The line is not a JSON object.", code="invalid_json_line")
    found = checked(BatchLine, value, "A line of a batch")
    if not 1 <= len(found.custom_id) <= _LONGEST_ID:
        raise bad("custom_id", f"custom_id has to have 1 to {_LONGEST_ID} characters.")
    if found.url != endpoint:
        raise bad("url", f"url is {found.url}; the batch's endpoint is {endpoint}.", "mismatched_url")
    return found


def name_of(line: bytes) -> str | None:
    """The ``custom_id`` of a line that is no request; None where it has none that is usable."""
    try:
        value = json_input.decode(line, max_bytes=LARGEST_LINE)
    except json_input.InvalidJson:
        return None
    name = value.get("custom_id") if isinstance(value, dict) else None
    return name if isinstance(name, str) else None


def body_of(line: BatchLine) -> ChatBody | CompletionsBody:
    """The body as the endpoint reads it; raises as that does."""
    kind: type[TextFields] = ChatBody if line.url == "/v1/chat/completions" else CompletionsBody
    return cast("ChatBody | CompletionsBody", checked(kind, line.body, line.url))


def converted(body: ChatBody | CompletionsBody, chat_tokens: int) -> Json:
    """The fields of a line of ``GenerateBatch``, its name apart.

    Parameters
    ----------
    body
        Of a request.
    chat_tokens
        Most tokens of a reply whose request says nothing of it.

    Raises
    ------
    ApiError
        400: the endpoint would refuse it, or it has what a batch does not.
    """
    if body.stream:
        raise unsupported("stream", "A batch's answers come in a file; leave stream out.")
    made = _chat(body, chat_tokens) if isinstance(body, ChatBody) else _completion(body)
    fields = body.request()
    for name in _ALONE:
        if fields.get(name):
            field = _CALLED.get(name, name)
            raise unsupported(field, f"{field} is not supported in a batch; send this request by itself.")
        fields.pop(name, None)
    sampling = fields.pop("sampling")
    if "logit_bias" in sampling:
        sampling["logit_bias"] = {str(token): bias for token, bias in sampling["logit_bias"].items()}
    structured = fields.pop("structured", None)
    if structured is not None:
        choice = structured.get("choice")
        fields["structured"] = {"choice": choice["texts"]} if choice is not None else structured
    return {**made, **sampling, **fields}


def _chat(body: ChatBody, chat_tokens: int) -> Json:
    if body.tools:
        raise unsupported("tools", "tools is not supported in a batch; send this request by itself.")
    if body.tool_choice not in (None, "none", "auto"):
        raise bad("tool_choice", "tool_choice asks for a call, and there are no tools.")
    if body.alternatives() is not None:
        raise _no_logprobs()
    messages = chat_of(body.messages)
    for at, message in enumerate(messages):
        if message["role"] not in _ROLES or message.get("tool_calls"):
            raise unsupported(
                f"messages[{at}].role", "A batch takes messages of the roles system, user and assistant."
            )
    most = body.most_tokens()
    return {"messages": messages, "max_tokens": chat_tokens if most is None else most}


def _completion(body: CompletionsBody) -> Json:
    check(body)
    if body.logprobs is not None:
        raise _no_logprobs()
    for name in ("echo", "drafts"):
        if getattr(body, name):
            raise unsupported(name, f"{name} is not supported in a batch; send this request by itself.")
    [first, *more] = prompts_of(body.prompt, 1 << 30)
    if more or first.text is None:
        raise unsupported("prompt", "A line of a batch has one prompt, as text; write a line for each.")
    return {"prompt": first.text, "max_tokens": body.max_tokens}


def _no_logprobs() -> ApiError:
    return unsupported("logprobs", "logprobs is not supported in a batch; send this request by itself.")
