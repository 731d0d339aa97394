"""One RPC as a client calls it, read from the contract's descriptors."""

from dataclasses import dataclass
from functools import cache
from typing import Any

from google.longrunning import operations_pb2
from google.protobuf import any_pb2, descriptor_pool, message_factory
from google.protobuf.message import Message

from palimpsest.api.options.v1 import options_pb2


@dataclass(frozen=True)
class Method:
    """One RPC.

    Attributes
    ----------
    path
        Such as ``/palimpsest.api.models.v1.ModelService/GetModel``.
    result
        Type of the finished job's response where the method starts a job; None for the others.
    seconds
        Longest deadline the contract allows, where it names one; 0 otherwise.
    """

    path: str
    request: type[Message]
    response: type[Message]
    sends_stream: bool
    receives_stream: bool
    result: type[Message] | None
    seconds: int

    @staticmethod
    @cache
    def named(full_name: str) -> "Method":
        """Return the method of a full name such as ``palimpsest.api.models.v1.ModelService.GetModel``."""
        found: Any = descriptor_pool.Default().FindMethodByName(full_name)
        options = found.GetOptions()
        info = options.Extensions[operations_pb2.operation_info]
        result = None
        if info.response_type:
            scope = found.containing_service.file.package
            name = info.response_type if "." in info.response_type else f"{scope}.{info.response_type}"
            result = message_class(name)
        service, _, verb = full_name.rpartition(".")
        return Method(
            path=f"/{service}/{verb}",
            request=message_factory.GetMessageClass(found.input_type),
            response=message_factory.GetMessageClass(found.output_type),
            sends_stream=found.client_streaming,
            receives_stream=found.server_streaming,
            result=result,
            seconds=options.Extensions[options_pb2.access].max_seconds,
        )


def message_class(full_name: str) -> type[Message]:
    """Return the generated class of a message by its full name; KeyError if it was never imported."""
    return message_factory.GetMessageClass(descriptor_pool.Default().FindMessageTypeByName(full_name))


def unpack(packed: any_pb2.Any) -> Message:
    """Return the message an Any holds, as its own class."""
    message = message_class(packed.TypeName())()
    packed.Unpack(message)
    return message
