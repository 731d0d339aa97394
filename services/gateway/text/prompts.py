"""Prompts of completions: as text or tokens, one or several, and what an echo tells of them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from palimpsest.api.decoding.v1 import decoding_pb2 as pb
from palimpsest.client.aio.decoding import AsyncDecoding
from services.gateway.errors import bad
from services.gateway.text.pieces import bytes_before

Prompts = str | list[str] | list[int] | list[list[int]]


@dataclass(frozen=True)
class Prompt:
    """One prompt; either of the two."""

    text: str | None = None
    ids: tuple[int, ...] = ()

    @property
    def fields(self) -> dict[str, Any]:
        """The input of a call that generates from it."""
        return {"prompt": self.text} if self.text is not None else {"tokens": {"ids": self.ids}}


def prompts_of(given: Prompts, most: int) -> list[Prompt]:
    """The prompts of a request.

    Parameters
    ----------
    given
        A text, a list of texts, token ids, or a list of lists of token ids.
    most
        How many there may be.

    Raises
    ------
    ApiError
        400: there is none, or there are too many, or an id that is none.
    """
    if isinstance(given, str):
        return [Prompt(given)]
    if not given:
        raise bad("prompt", "prompt is empty; send some text, or at least one token id.")
    if isinstance(given[0], int):
        return [_of_ids(given)]  # type: ignore[arg-type]
    if len(given) > most:
        raise bad(
            "prompt",
            f"prompt has {len(given)} prompts; send at most {most} at once (PALIMPSEST_GATEWAY_PROMPTS).",
        )
    return [Prompt(each) if isinstance(each, str) else _of_ids(each) for each in given]  # type: ignore[arg-type]


def _of_ids(ids: Sequence[int]) -> Prompt:
    if not ids:
        raise bad("prompt", "A list of token ids is empty; it needs at least one.")
    if min(ids) < 0 or max(ids) >= 1 << 32:
        raise bad("prompt", "A token id of the prompt is not in the vocabulary.")
    return Prompt(ids=tuple(ids))


@dataclass(frozen=True)
class Echo:
    """A prompt as it is repeated before its completion.

    Attributes
    ----------
    text
        As it was given; of token ids, what they say.
    pieces
        Bytes of each token; none where nobody asks for them.
    skipped
        Bytes of the first pieces that are not in the text.
    scores
        Of each token after the first: its log-probability, and the most probable ones'.
    tokens
        How many it has; 0 where nobody asks.
    """

    text: str
    pieces: tuple[bytes, ...] = ()
    skipped: int = 0
    scores: tuple[pb.TokenLogprob, ...] = field(default=(), repr=False)
    tokens: int = 0


async def echoed(
    room: AsyncDecoding, model: str, prompt: Prompt, logprobs: int | None, counted: bool
) -> Echo:
    """Repeat a prompt.

    Parameters
    ----------
    room, model
        Whose tokenizer and probabilities are asked.
    prompt
        Text or tokens.
    logprobs
        How many most probable tokens are told of each position; None: no probabilities at all.
    counted
        Whether its tokens are counted in any case, as nothing is generated from it.
    """
    if prompt.text is not None:
        if logprobs is None and not counted:
            return Echo(prompt.text)
        found = await room.tokenize(model=model, text=prompt.text, pieces=True)
        ids, pieces, text = list(found.ids), tuple(found.pieces), prompt.text
    else:
        written = await room.detokenize(model=model, ids=prompt.ids, pieces=True)
        ids, pieces, text = list(prompt.ids), tuple(written.pieces), written.text
    scores: tuple[pb.TokenLogprob, ...] = ()
    if logprobs is not None and len(ids) > 1:
        answer = await room.score(model=model, tokens={"ids": ids}, top=logprobs)
        scores = tuple(answer.tokens)
    return Echo(text, pieces, bytes_before(pieces, text), scores, len(ids))
