"""Between the contract's messages and the engine's objects."""

import secrets
from collections.abc import Sequence
from typing import Any

from palimpsest.api.decoding.v1 import decoding_pb2 as pb
from palimpsest.decoding.drafts import Draft, DraftDelta, DraftsEnd
from palimpsest.decoding.quoting import Span, SpanRevoked
from palimpsest.decoding.quoting.events import QuotingFinished
from palimpsest.engine import Delta, Event, Finished, Request, Started
from palimpsest.lm import Choice, Sampling, TokenBytes, encode_chat, encode_text
from services.decoding.drafts.messages import REASONS, draft_response
from services.decoding.quoting.messages import revoked_message, span_message, statistics_message

DEFAULT_MAX_TOKENS = 256


def sampling_of(message: pb.SamplingConfig, seed: int | None = None) -> Sampling:
    """Sampling settings; an unset seed becomes ``seed``, or is drawn."""
    if message.HasField("seed"):
        seed = message.seed
    return Sampling(
        temperature=message.temperature,
        top_k=message.top_k,
        top_p=message.top_p if message.HasField("top_p") else 1.0,
        min_p=message.min_p,
        seed=secrets.randbits(63) if seed is None else seed,
    )


def request_of(message: pb.GenerateRequest, tokenizer: Any) -> Request:
    """The engine's request, without its context; tokenizes, which may take a while for a long prompt.

    Raises
    ------
    InvalidArgument
        PROMPT_EMPTY, NO_CHAT_TEMPLATE or CHAT_INVALID.
    """
    match message.WhichOneof("input"):
        case "chat":
            chat = [{"role": m.role, "content": m.content} for m in message.chat.messages]
            ids = encode_chat(tokenizer, chat)
        case "tokens":
            ids = list(message.tokens.ids)
        case _:
            ids = encode_text(tokenizer, message.prompt, special_tokens=not message.context)
    logprobs = message.logprobs if message.HasField("logprobs") else -1
    return Request(
        ids=ids,
        sampling=sampling_of(message.sampling),
        n=message.n or 1,
        max_tokens=message.max_tokens or DEFAULT_MAX_TOKENS,
        stop=tuple(message.stop),
        logprobs=None if logprobs < 0 else logprobs,
        ignore_eos=message.ignore_eos,
    )


def logprob_messages(choices: Sequence[Choice], write: TokenBytes) -> list[pb.TokenLogprob]:
    """Chosen tokens with their alternatives."""
    return [
        pb.TokenLogprob(
            id=choice.id,
            bytes=write(choice.id),
            logprob=choice.logprob,
            top=[pb.TokenLogprob(id=i, bytes=write(i), logprob=p) for i, p in choice.top],
        )
        for choice in choices
    ]


def response_of(
    event: Event,
    request: Request,
    fingerprint: str,
    write: TokenBytes,
) -> pb.GenerateResponse:
    """One event of a stream."""
    match event:
        case Started():
            return pb.GenerateResponse(
                started=pb.GenerateStarted(
                    seed=request.sampling.seed,
                    prompt_tokens=event.prompt_tokens,
                    cached_tokens=event.cached_tokens,
                    model_fingerprint=fingerprint,
                )
            )
        case Delta():
            return pb.GenerateResponse(
                delta=pb.GenerateDelta(
                    index=event.index,
                    text=event.text,
                    token_ids=event.token_ids,
                    logprobs=logprob_messages(event.choices, write),
                )
            )
        case Finished():
            return pb.GenerateResponse(
                finished=pb.SequenceFinished(
                    index=event.index,
                    reason=REASONS[event.reason],
                    stop=event.stop,
                    generated_tokens=event.generated_tokens,
                    text=event.text,
                    logprob=event.logprob,
                    nest=statistics_message(event.quoting) if isinstance(event, QuotingFinished) else None,
                )
            )
        case Span():
            return pb.GenerateResponse(span=span_message(event))
        case DraftDelta() | Draft() | DraftsEnd():
            return draft_response(event)
        case SpanRevoked():
            return pb.GenerateResponse(revoked=revoked_message(event))
    raise TypeError(f"no message for {type(event).__name__}")
