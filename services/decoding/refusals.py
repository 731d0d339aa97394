"""Settings of requests that a way of generating cannot honour: they are refused by name, never ignored."""

from palimpsest.api.decoding.v1 import decoding_pb2 as pb
from palimpsest.errors import InvalidArgument, Reason

_SAMPLING = ("repetition_penalty", "presence_penalty", "frequency_penalty", "logit_bias")
_REQUEST = ("min_tokens", "stop_token_ids", "bad_words", "structured")


def given_constraints(message: pb.GenerateRequest | pb.GenerateBatchRequest | pb.DraftRequest) -> list[str]:
    """Names of the fields of a request that penalise, forbid or demand tokens."""
    set_fields = {field.name for field, _ in message.ListFields()}
    set_sampling = {field.name for field, _ in message.sampling.ListFields()}
    return [f"sampling.{name}" for name in _SAMPLING if name in set_sampling] + [
        name for name in _REQUEST if name in set_fields
    ]


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


def refuse_constraints(
    message: pb.GenerateRequest | pb.GenerateBatchRequest | pb.DraftRequest, place: str
) -> None:
    """Refuse a request that sets one of them.

    Parameters
    ----------
    message
        The caller's request.
    place
        What cannot honour them, such as "Draft".

    Raises
    ------
    InvalidArgument
        SETTING_UNSUPPORTED, with the first field.
    """
    for name in given_constraints(message):
        raise InvalidArgument.field(
            Reason.SETTING_UNSUPPORTED, name, f"{place} does not support {name}; leave it out."
        )
