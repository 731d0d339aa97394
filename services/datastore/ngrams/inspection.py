"""What an n-gram store knows about a text, as a message."""

from typing import TYPE_CHECKING

import numpy as np

from palimpsest.api.datastore.v1 import datastore_pb2 as pb

if TYPE_CHECKING:
    from palimpsest.ngrams import NgramStore

_COVERAGE_ORDER = 3
"""Coverage is the share of tokens whose two preceding tokens have a continuation in the store."""


def inspected_message(
    store: "NgramStore", ids: list[int], token_bytes: list[bytes], limit: int
) -> pb.InspectNgramsResponse:
    """Report the continuations of a text's last tokens, of every order, and the store's coverage of the text.

    Parameters
    ----------
    store, ids
        The store, and the text's token ids.
    token_bytes
        Bytes of each token of the vocabulary; empty if they are unknown.
    limit
        Continuations of each order.
    """
    from palimpsest.ngrams import LONGEST  # compiled look-ups take a moment to load

    def text(tokens: list[int]) -> bytes:
        return b"".join(token_bytes[token] for token in tokens if token < len(token_bytes))

    response = pb.InspectNgramsResponse(token_count=len(ids), coverage=store.coverage(ids, _COVERAGE_ORDER))
    for order in range(1, min(LONGEST, len(ids) + 1) + 1):
        context = ids[len(ids) - order + 1 :]
        _, total = store.counts(context, np.zeros(0, dtype=np.int32))
        response.orders.add(
            order=order,
            context=context,
            context_text=text(context),
            total=total,
            continuations=[
                pb.InspectNgramsResponse.Continuation(token=token, count=count, text=text([token]))
                for token, count in store.continuations(context, limit)
            ],
        )
    return response
