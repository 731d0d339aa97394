"""From requests to what the domain takes.

Domain modules take and return these messages: stored resources and the nouns they are made of (``Context``, ``Chunk``,
``Profile``, ``CacheShape``, ``Coding``, ``LoadSettings``), and responses they compute whole (the events of a load, an
estimate). Requests and their parts stop at ``service.py``, and for jobs at ``tasks.py``: they are taken apart there or
here.
"""

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, TypeVar

from palimpsest.api.codec.v1 import codec_pb2 as pb
from palimpsest.errors import InvalidArgument, Reason

if TYPE_CHECKING:
    from services.codec.loads import LoadSession

R = TypeVar("R", pb.PutContextRequest, pb.EncodeCacheRequest, pb.LoadContextRequest)


async def first_part(messages: AsyncIterator[R], part: str) -> R:
    """Return the first message of a stream, which has to be of one kind.

    Raises
    ------
    InvalidArgument
        INVALID_REQUEST: it is of another kind, or there is none.
    """
    first = await anext(messages, None)
    if first is None or first.WhichOneof("part") != part:
        raise _out_of_order(part)
    return first


async def data_of(
    messages: AsyncIterator[pb.PutContextRequest] | AsyncIterator[pb.EncodeCacheRequest],
) -> AsyncIterator[bytes]:
    """The data of the messages after the first.

    Raises
    ------
    InvalidArgument
        INVALID_REQUEST: a message is something else.
    """
    async for message in messages:
        if message.WhichOneof("part") != "data":
            raise _out_of_order("spec")
        yield message.data


def report(message: pb.LoadContextRequest, session: "LoadSession") -> None:
    """Pass one report of a receiver on to its load.

    Raises
    ------
    InvalidArgument
        KV_REPORT_INVALID: it is none, or is about a chunk that it cannot be about.
    """
    match message.WhichOneof("part"):
        case "receipt":
            session.received(message.receipt.received_bytes, message.receipt.busy_seconds)
        case "recomputing":
            session.recomputing(message.recomputing.chunk)
        case "recomputed":
            session.recomputed(message.recomputed.chunk, message.recomputed.seconds)
        case "rejected":
            session.rejected(message.rejected.chunk)
        case "accepted":
            session.accepted(message.accepted.chunk, message.accepted.seconds)
        case part:
            raise InvalidArgument.field(
                Reason.KV_REPORT_INVALID,
                part or "part",
                "After begin, send only receipt, recomputing, recomputed, accepted or rejected.",
            )


def _out_of_order(first: str) -> InvalidArgument:
    return InvalidArgument(
        Reason.INVALID_REQUEST,
        f"The first message of the stream must be {first}, and only the first; data or reports follow.",
    )
