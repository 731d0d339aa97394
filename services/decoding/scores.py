"""The probability of a given text under the model alone."""

import asyncio
import math
from collections.abc import Sequence

from palimpsest.api.decoding.v1 import decoding_pb2 as pb
from palimpsest.engine import Hosted
from palimpsest.errors import InvalidArgument, Reason, Violation
from services.decoding.convert import logprob_messages

_BYTES_PER_LOGPROB = 32
_LARGEST_RESPONSE = 4 << 20


async def model_scores(request: pb.ScoreRequest, ids: Sequence[int], hosted: Hosted) -> pb.ScoreResponse:
    """Score a text's tokens, in one forward pass between the engine's steps."""
    future = hosted.engine.submit_score(ids, request.top, request.skip_tokens)
    scores = await asyncio.wrap_future(future)
    tokens = logprob_messages(scores.tokens, hosted.token_bytes)
    return score_response(tokens, scores.total, hosted.record.fingerprint)


def score_response(tokens: Sequence[pb.TokenLogprob], total: float, fingerprint: str) -> pb.ScoreResponse:
    """The response for scored tokens and the sum of their log-probabilities (nats)."""
    return pb.ScoreResponse(
        tokens=tokens,
        total_logprob=total,
        perplexity=math.exp(min(700.0, -total / len(tokens))),
        model_fingerprint=fingerprint,
    )


def check_size(request: pb.ScoreRequest, tokens: int) -> None:
    """Refuse a text with nothing to score, and one whose response would not fit in a message.

    Raises
    ------
    InvalidArgument
        PROMPT_EMPTY or INVALID_REQUEST.
    """
    scored = tokens - max(1, request.skip_tokens)
    if scored < 1:
        raise InvalidArgument(
            Reason.PROMPT_EMPTY,
            f"There is nothing to score: the text has {tokens} tokens, and the first one and skip_tokens "
            f"({request.skip_tokens}) are not scored.",
            metadata={"tokens": tokens},
        )
    if scored * (1 + request.top) * _BYTES_PER_LOGPROB > _LARGEST_RESPONSE:
        most = _LARGEST_RESPONSE // ((1 + request.top) * _BYTES_PER_LOGPROB)
        message = (
            f"The response for {scored} tokens with {request.top} alternatives each does not fit in one message. "
            f"Score at most {most} tokens at once (skip_tokens keeps the earlier ones as context), or lower top."
        )
        raise InvalidArgument(Reason.INVALID_REQUEST, message, violations=[Violation("top", message)])
