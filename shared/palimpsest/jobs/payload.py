"""Protobuf messages in a job record: JSON beside the type's name, and digests that do not depend on the encoding."""

import hashlib
import importlib
import json
from collections.abc import Mapping

from google.protobuf import json_format, symbol_database
from google.protobuf.message import Message

from palimpsest.errors import InvalidArgument, Reason

LARGEST = 1 << 20
"""Most bytes of JSON a record takes as request, response or checkpoint; anything larger belongs in an artefact."""


def to_json(message: Message) -> str:
    """Return a message as JSON.

    Raises
    ------
    InvalidArgument
        JOB_TOO_LARGE: it does not fit a record.
    """
    text = json_format.MessageToJson(message, preserving_proto_field_name=True, indent=None)
    return checked(text, message.DESCRIPTOR.full_name)


def checked(text: str, what: str) -> str:
    """Return text if it fits a record.

    Raises
    ------
    InvalidArgument
        JOB_TOO_LARGE: it does not; ``what`` names it in the message.
    """
    size = len(text.encode())
    if size > LARGEST:
        raise InvalidArgument(
            Reason.JOB_TOO_LARGE,
            f"{what} takes {size} bytes of JSON and a job record holds {LARGEST}: put the bulk in an artefact.",
            metadata={"size_bytes": size, "limit_bytes": LARGEST},
        )
    return text


def from_json(type_name: str, text: str) -> Message:
    """Return the message in JSON that to_json wrote."""
    return json_format.Parse(text, message_class(type_name)(), ignore_unknown_fields=True)


def message_class(type_name: str) -> type[Message]:
    """Return the class of a message, importing its generated module where necessary.

    ``palimpsest.api.codec.v1.Bitstream`` is in ``palimpsest.api.codec.v1.codec_pb2``: one file per package.
    """
    try:
        return symbol_database.Default().GetSymbol(type_name)
    except KeyError:
        package = type_name.rpartition(".")[0]
        if package.startswith("palimpsest.api."):
            importlib.import_module(f"{package}.{package.split('.')[-2]}_pb2")
        return symbol_database.Default().GetSymbol(type_name)


def request_digest(kind: str, message: Message) -> str:
    """Return a digest of a kind and a request, the same in every process and version of protobuf."""
    value = json_format.MessageToDict(message, preserving_proto_field_name=True)
    return canonical_digest({"kind": kind, "request": value})


def canonical_digest(value: Mapping[str, object]) -> str:
    """Return the SHA-256 of a value's canonical JSON (sorted keys, no spaces), in hexadecimal.

    Raises
    ------
    InvalidArgument
        The value is not JSON: it contains NaN, infinity or an object.
    """
    try:
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InvalidArgument(
            Reason.INVALID_REQUEST,
            f"The action must be finite JSON data to be compared with others: {error}.",
        ) from None
    return hashlib.sha256(text.encode()).hexdigest()
