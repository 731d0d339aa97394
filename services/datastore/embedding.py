"""Vectors of texts that are in no corpus."""

from collections.abc import Callable

from palimpsest.api.datastore.v1 import datastore_pb2 as pb
from palimpsest.errors import Cancelled, InvalidArgument, Reason
from palimpsest.paging import ANSWER_BYTES
from services.datastore.corpora import Corpora
from services.datastore.index.encoder import DEFAULT, encoder_fingerprint


def embedded(
    corpora: Corpora, name: str, texts: list[str], abandoned: Callable[[], bool]
) -> pb.EmbedResponse:
    """Encode texts.

    Parameters
    ----------
    corpora
        Which keeps the encoders.
    name
        Of the encoder; empty: the default.
    texts
        At least one.
    abandoned
        Whether nobody waits for the answer any more; asked again and again.

    Raises
    ------
    InvalidArgument
        ENCODER_UNKNOWN; INVALID_REQUEST: a text is empty, or there are more than one answer holds.
    FailedPrecondition
        ENCODER_MISSING.
    Cancelled
        It was abandoned.
    """

    def check(_done: int) -> None:
        if abandoned():
            raise Cancelled(Reason.CANCELLED, "The caller has left.")

    name = name or DEFAULT
    encoder = corpora.encoder_named(name)
    for at, text in enumerate(texts):
        if not text.strip():
            raise InvalidArgument.field(
                Reason.INVALID_REQUEST, f"texts[{at}]", f"texts[{at}] is empty; leave it out."
            )
    most = ANSWER_BYTES // (4 * encoder.dim + 16)
    if len(texts) > most:
        raise InvalidArgument.field(
            Reason.INVALID_REQUEST,
            "texts",
            f"The vectors of {len(texts)} texts do not fit in one message; send {most} at once.",
        )
    lengths, vectors = encoder.lengths(texts), encoder.encode(texts, check)
    return pb.EmbedResponse(
        encoder=name,
        encoder_fingerprint=encoder_fingerprint(name),
        dim=encoder.dim,
        longest=encoder.longest,
        vectors=[
            pb.EmbedResponse.Vector(values=row.astype("<f4").tobytes(), tokens=tokens)
            for row, tokens in zip(vectors, lengths, strict=True)
        ],
    )
