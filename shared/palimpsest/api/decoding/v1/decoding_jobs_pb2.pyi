from palimpsest.api.decoding.v1 import decoding_pb2 as _decoding_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class TuneDraftsJob(_message.Message):
    __slots__ = ("request", "ngrams_artifact")
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    NGRAMS_ARTIFACT_FIELD_NUMBER: _ClassVar[int]
    request: _decoding_pb2.TuneDraftsRequest
    ngrams_artifact: str
    def __init__(self, request: _Optional[_Union[_decoding_pb2.TuneDraftsRequest, _Mapping]] = ..., ngrams_artifact: _Optional[str] = ...) -> None: ...
