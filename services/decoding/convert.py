"""Between the contract's messages and the engine's objects: requests, and converters from events to responses.

Converters are registered by event type, one registry for each streaming RPC. A feature registers the converters of its
own events::

    @GENERATE.converts(SpanRevoked)
    def _revoked(event: SpanRevoked, call: Call) -> pb.GenerateResponse: ...

What only one call knows, such as its retrieval statistics, is added to a copy of the registry for that call.
"""

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from palimpsest.api.decoding.v1 import decoding_pb2 as pb
from palimpsest.engine import Delta, Event, Finish, Finished, Request, Started
from palimpsest.lm import Choice, Sampling, encode_chat, encode_text
from services.decoding.constraints import bad_word_ids

DEFAULT_MAX_TOKENS = 256

FINISH_REASONS = {
    Finish.LENGTH: pb.FINISH_REASON_LENGTH,
    Finish.EOS: pb.FINISH_REASON_EOS,
    Finish.STOP: pb.FINISH_REASON_STOP,
}

E = TypeVar("E", bound=Event)
M = TypeVar("M")


@dataclass(frozen=True)
class Call:
    """What every converter may need of the call whose events it converts.

    Parameters
    ----------
    seed
        Of its random numbers.
    fingerprint
        Of the model.
    write
        Returns the bytes of a token.
    """

    seed: int
    fingerprint: str
    write: Callable[[int], bytes]


class Converters(Generic[M]):
    """Functions from engine events to one RPC's response messages, registered by event type."""

    def __init__(self) -> None:
        self._functions: dict[type[Event], Callable[[Any, Call], M]] = {}

    def converts(self, kind: type[E]) -> Callable[[Callable[[E, Call], M]], Callable[[E, Call], M]]:
        """Register the decorated function for events of a type and of its subclasses that have none of their own."""

        def register(function: Callable[[E, Call], M]) -> Callable[[E, Call], M]:
            self.add(kind, function)
            return function

        return register

    def add(self, kind: type[E], function: Callable[[E, Call], M]) -> None:
        """Register a function; it replaces the one that the type had."""
        self._functions[kind] = function

    def copy(self) -> "Converters[M]":
        """A registry with the same functions, to which one call may add its own."""
        twin = Converters[M]()
        twin._functions.update(self._functions)
        return twin

    def convert(self, event: Event, call: Call) -> M:
        """The message for an event.

        Raises
        ------
        TypeError
            No function is registered for the event's type: a bug.
        """
        for kind in type(event).__mro__:
            if kind in self._functions:
                return self._functions[kind](event, call)
        raise TypeError(f"no converter is registered for {type(event).__name__}")


GENERATE = Converters[pb.GenerateResponse]()
DRAFT = Converters[pb.DraftResponse]()


def sampling_of(message: pb.SamplingConfig, seed: int | None = None) -> Sampling:
    """Sampling settings; an unset seed becomes ``seed``, or is drawn at random."""
    if message.HasField("seed"):
        seed = message.seed
    return Sampling(
        temperature=message.temperature,
        top_k=message.top_k,
        top_p=message.top_p if message.HasField("top_p") else 1.0,
        min_p=message.min_p,
        seed=secrets.randbits(63) if seed is None else seed,
        repetition_penalty=message.repetition_penalty if message.HasField("repetition_penalty") else 1.0,
        presence_penalty=message.presence_penalty,
        frequency_penalty=message.frequency_penalty,
        logit_bias=tuple(sorted(message.logit_bias.items())),
    )


def request_of(message: pb.GenerateRequest, tokenizer: Any) -> Request:
    """The engine's request, without its context and its grammar; tokenizes, which takes a while for a long prompt.

    Raises
    ------
    InvalidArgument
        PROMPT_EMPTY, NO_CHAT_TEMPLATE, CHAT_INVALID or BAD_WORD_EMPTY.
    """
    logprobs = message.logprobs if message.HasField("logprobs") else -1
    return Request(
        ids=prompt_ids(message, tokenizer, special_tokens=not message.context),
        sampling=sampling_of(message.sampling),
        n=message.n or 1,
        max_tokens=message.max_tokens or DEFAULT_MAX_TOKENS,
        stop=tuple(message.stop),
        logprobs=None if logprobs < 0 else logprobs,
        ignore_eos=message.ignore_eos,
        min_tokens=message.min_tokens,
        stop_ids=frozenset(message.stop_token_ids),
        bad_words=bad_word_ids(tokenizer, message.bad_words),
    )


def prompt_ids(
    message: pb.GenerateRequest | pb.DraftRequest, tokenizer: Any, special_tokens: bool = True
) -> list[int]:
    """Token ids of a request's input.

    Raises
    ------
    InvalidArgument
        PROMPT_EMPTY, NO_CHAT_TEMPLATE or CHAT_INVALID.
    """
    match message.WhichOneof("input"):
        case "chat":
            chat = [{"role": m.role, "content": m.content} for m in message.chat.messages]
            return encode_chat(tokenizer, chat)
        case "tokens":
            return list(message.tokens.ids)
        case _:
            return encode_text(tokenizer, message.prompt, special_tokens=special_tokens)


def logprob_messages(choices: Sequence[Choice], write: Callable[[int], bytes]) -> list[pb.TokenLogprob]:
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


def finished_message(event: Finished) -> pb.SequenceFinished:
    """The end of one sequence."""
    return pb.SequenceFinished(
        index=event.index,
        reason=FINISH_REASONS[event.reason],
        stop=event.stop,
        generated_tokens=event.generated_tokens,
        text=event.text,
        logprob=event.logprob,
    )


def _started_message(event: Started, call: Call) -> pb.GenerateStarted:
    return pb.GenerateStarted(
        seed=call.seed,
        prompt_tokens=event.prompt_tokens,
        cached_tokens=event.cached_tokens,
        model_fingerprint=call.fingerprint,
    )


@GENERATE.converts(Started)
def _started(event: Started, call: Call) -> pb.GenerateResponse:
    return pb.GenerateResponse(started=_started_message(event, call))


@DRAFT.converts(Started)
def _drafting_started(event: Started, call: Call) -> pb.DraftResponse:
    return pb.DraftResponse(started=_started_message(event, call))


@GENERATE.converts(Delta)
def _delta(event: Delta, call: Call) -> pb.GenerateResponse:
    return pb.GenerateResponse(
        delta=pb.GenerateDelta(
            index=event.index,
            text=event.text,
            token_ids=event.token_ids,
            logprobs=logprob_messages(event.choices, call.write),
        )
    )


@GENERATE.converts(Finished)
def _finished(event: Finished, call: Call) -> pb.GenerateResponse:
    return pb.GenerateResponse(finished=finished_message(event))
