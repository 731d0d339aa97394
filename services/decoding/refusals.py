"""Settings that a call cannot have in the background: they are refused by name, never ignored."""

from palimpsest.api.decoding.v1 import decoding_pb2 as pb
from palimpsest.errors import InvalidArgument, Reason


def refuse_in_background(message: pb.GenerateRequest) -> None:
    """Refuse a background request for something that other rooms and callers would wait for.

    Raises
    ------
    InvalidArgument
        BACKGROUND_UNSUPPORTED.
    """
    if message.priority == pb.PRIORITY_BACKGROUND and (message.context or message.nest.corpora):
        raise InvalidArgument.field(
            Reason.BACKGROUND_UNSUPPORTED,
            "priority",
            "A request with a context or quotations cannot run in the background; leave the priority out.",
        )
