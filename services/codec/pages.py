"""Contexts in parts: one of thousands of chunks does not fit a message."""

from collections.abc import Iterator

from palimpsest.api.codec.v1 import codec_pb2 as pb
from palimpsest.errors import OutOfRange, Reason
from palimpsest.paging import ANSWER_BYTES, fitting


def part_of(context: pb.Context, first: int = 0) -> pb.Context:
    """Copy a context with the chunks from ``first`` on that fit a message, and how many it has in all.

    Raises
    ------
    OutOfRange
        KV_RANGE: it does not have this chunk.
    """
    if first and first >= len(context.chunks):
        raise OutOfRange(
            Reason.KV_RANGE,
            f"{context.name} has {len(context.chunks)} chunks, counted from 0; there is no chunk {first}.",
            metadata={"chunks": len(context.chunks)},
        )
    part = pb.Context()
    part.CopyFrom(context)
    part.chunk_count = len(context.chunks)
    del part.chunks[:first]
    del part.chunks[_fit(part) :]
    return part


def parts_of(context: pb.Context) -> Iterator[pb.Context]:
    """Cut a context into parts that fit a message each; all but the first hold nothing but chunks."""
    part = part_of(context)
    yield part
    done = len(part.chunks)
    while done < len(context.chunks):
        part = pb.Context(chunks=context.chunks[done:])
        del part.chunks[_fit(part) :]
        yield part
        done += len(part.chunks)


def _fit(part: pb.Context) -> int:
    beside = part.ByteSize() - sum(chunk.ByteSize() for chunk in part.chunks)
    return fitting((chunk.ByteSize() for chunk in part.chunks), ANSWER_BYTES - beside)
