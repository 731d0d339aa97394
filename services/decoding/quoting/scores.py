"""The probability of a given text under the mixture with the passages of corpora."""

import asyncio
from collections.abc import Sequence

from palimpsest.api.decoding.v1 import decoding_pb2 as pb
from palimpsest.client.aio.connection import AsyncConnection
from palimpsest.decoding.quoting.scoring import submit_nest_score
from palimpsest.engine import Hosted
from palimpsest.errors import InvalidArgument, Reason
from services.decoding.outbox import Outbox
from services.decoding.quoting.quotation import Quotation
from services.decoding.scores import score_response

QUERY_TOKENS = 64
"""Leading tokens that make the retrieval query where the request sets neither query nor skip_tokens."""

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
) -> pb.ScoreResponse:
    """Score a text under NEST or KNN_LM.

    Parameters
    ----------
    request
        Names at least one corpus.
    ids
        The text's tokens.
    hosted
        The model.
    connection
        To the datastore room, with the caller's token.

    Raises
    ------
    InvalidArgument
        The mode defines no distribution, or alternatives were requested.
    PalimpsestError
        From the datastore room.
    """
    column = _COLUMNS.get(request.nest.mode)
    if column is None:
        raise InvalidArgument.field(
            Reason.INVALID_REQUEST, "nest.mode", "Score supports MODE_LM, MODE_KNN_LM and MODE_NEST."
        )
    if request.top:
        raise InvalidArgument.field(
            Reason.INVALID_REQUEST, "top", "Alternatives of a mixture are not reported. Leave top at 0."
        )
    leading = ids[: request.skip_tokens or QUERY_TOKENS]
    query = request.nest.query or hosted.tokenizer.decode(leading, skip_special_tokens=True)
    quotation = Quotation(request.nest, connection, hosted, Outbox())
    try:
        block = await quotation.open(query, leading)
        work = submit_nest_score(hosted.engine, ids, quotation.strategy(block), request.skip_tokens)
        scores = await asyncio.wrap_future(work)
    finally:
        await quotation.close()
    found = getattr(scores, column)
    tokens = [
        pb.TokenLogprob(id=token, bytes=hosted.token_bytes(token), logprob=logprob)
        for token, logprob in zip(scores.ids.tolist(), found.tolist(), strict=True)
    ]
    return score_response(tokens, float(found.sum()), hosted.record.fingerprint)
