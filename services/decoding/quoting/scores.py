"""The probability of a text where corpora may be quoted: under the mixture with their passages."""

import asyncio
import math
from collections.abc import Sequence
from typing import Any

from palimpsest.api.decoding.v1 import decoding_pb2 as pb
from palimpsest.client.aio.connection import AsyncConnection
from palimpsest.decoding.quoting.request import NestRequest
from palimpsest.decoding.quoting.scoring import submit_nest_score
from palimpsest.engine import Hosted, Request
from palimpsest.errors import InvalidArgument, Reason
from palimpsest.lm import TokenBytes
from services.decoding.outbox import Outbox
from services.decoding.quoting.quotation import Quotation

QUERY_TOKENS = 64
"""Leading tokens that passages are searched with where nothing else is said."""

_COLUMNS = {
    pb.NestSettings.MODE_UNSPECIFIED: "nest",
    pb.NestSettings.MODE_NEST: "nest",
    pb.NestSettings.MODE_KNN_LM: "knn_lm",
}


async def mixed_scores(
    request: pb.ScoreRequest,
    ids: Sequence[int],
    hosted: Hosted,
    connection: AsyncConnection,
    write: TokenBytes,
) -> pb.ScoreResponse:
    """Score a text under NEST or KNN_LM.

    Parameters
    ----------
    request
        Names corpora.
    ids
        The text's tokens.
    hosted
        The model.
    connection
        To the datastore room, as the caller may use it.
    write
        Gives the bytes of tokens.

    Raises
    ------
    InvalidArgument
        A mode that gives no distribution, or alternatives of a mixture.
    PalimpsestError
        As the datastore room says.
    """
    column = _COLUMNS.get(request.nest.mode)
    if column is None:
        raise InvalidArgument.field(
            Reason.INVALID_REQUEST, "nest.mode", "Texts are scored in MODE_LM, MODE_KNN_LM or MODE_NEST."
        )
    if request.top:
        raise InvalidArgument.field(
            Reason.INVALID_REQUEST, "top", "A mixture's alternatives are not reported; leave top at 0."
        )
    leading = ids[: request.skip_tokens or QUERY_TOKENS]
    query = request.nest.query or _text(hosted.engine.model.tokenizer, leading)
    quotation = Quotation(request.nest, connection, hosted, Outbox())
    try:
        opened = await quotation.open(Request(ids, max_tokens=0), query, leading)
        assert isinstance(opened.strategy, NestRequest)
        work = submit_nest_score(hosted.engine, ids, opened.strategy, request.skip_tokens)
        scores = await asyncio.wrap_future(work)
    finally:
        await quotation.close()
    found = getattr(scores, column)
    tokens = [
        pb.TokenLogprob(id=token, bytes=write(token), logprob=logprob)
        for token, logprob in zip(scores.ids.tolist(), found.tolist(), strict=True)
    ]
    total = float(found.sum())
    return pb.ScoreResponse(
        tokens=tokens,
        total_logprob=total,
        perplexity=math.exp(min(700.0, -total / len(tokens))),
        model_fingerprint=hosted.record.fingerprint,
    )


def _text(tokenizer: Any, ids: Sequence[int]) -> str:
    return tokenizer.decode(ids, skip_special_tokens=True)
