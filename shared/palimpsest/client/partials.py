"""Partial results of jobs, unpacked."""

from typing import NamedTuple

from google.protobuf.message import Message

from palimpsest.api.jobs.v1 import jobs_pb2
from palimpsest.client.methods import unpack


class PartialResult(NamedTuple):
    """What a job published before its end.

    Attributes
    ----------
    sequence
        1 for the job's first, then one more for each; a gap means that older ones have been dropped.
    value
        The message, of a type that the method which started the job names; a ``google.protobuf.Any`` if this client
        does not know the type.
    attempt
        The attempt that published it; one after a crash may publish again what an earlier one did.
    """

    sequence: int
    value: Message
    attempt: int


def partial_of(received: jobs_pb2.PartialResult) -> PartialResult:
    """Return a partial result as received, its message unpacked."""
    try:
        value: Message = unpack(received.value)
    except KeyError:
        value = received.value
    return PartialResult(received.sequence, value, received.attempt)
