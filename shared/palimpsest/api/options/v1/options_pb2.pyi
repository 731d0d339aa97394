from google.protobuf import descriptor_pb2 as _descriptor_pb2
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Ownership(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    OWNERSHIP_UNSPECIFIED: _ClassVar[Ownership]
    OWNERSHIP_CALLER: _ClassVar[Ownership]
    OWNERSHIP_INSTALLATION: _ClassVar[Ownership]
    OWNERSHIP_EVERYBODY: _ClassVar[Ownership]
OWNERSHIP_UNSPECIFIED: Ownership
OWNERSHIP_CALLER: Ownership
OWNERSHIP_INSTALLATION: Ownership
OWNERSHIP_EVERYBODY: Ownership
LIMITS_FIELD_NUMBER: _ClassVar[int]
limits: _descriptor.FieldDescriptor
ACCESS_FIELD_NUMBER: _ClassVar[int]
access: _descriptor.FieldDescriptor

class Limits(_message.Message):
    __slots__ = ("required", "min_len", "max_len", "pattern", "gte", "lte", "item_max_len", "hint")
    REQUIRED_FIELD_NUMBER: _ClassVar[int]
    MIN_LEN_FIELD_NUMBER: _ClassVar[int]
    MAX_LEN_FIELD_NUMBER: _ClassVar[int]
    PATTERN_FIELD_NUMBER: _ClassVar[int]
    GTE_FIELD_NUMBER: _ClassVar[int]
    LTE_FIELD_NUMBER: _ClassVar[int]
    ITEM_MAX_LEN_FIELD_NUMBER: _ClassVar[int]
    HINT_FIELD_NUMBER: _ClassVar[int]
    required: bool
    min_len: int
    max_len: int
    pattern: str
    gte: float
    lte: float
    item_max_len: int
    hint: str
    def __init__(self, required: bool = ..., min_len: _Optional[int] = ..., max_len: _Optional[int] = ..., pattern: _Optional[str] = ..., gte: _Optional[float] = ..., lte: _Optional[float] = ..., item_max_len: _Optional[int] = ..., hint: _Optional[str] = ...) -> None: ...

class Access(_message.Message):
    __slots__ = ("scope", "mutating", "max_seconds", "ownership", "admin_scope", "silent")
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    MUTATING_FIELD_NUMBER: _ClassVar[int]
    MAX_SECONDS_FIELD_NUMBER: _ClassVar[int]
    OWNERSHIP_FIELD_NUMBER: _ClassVar[int]
    ADMIN_SCOPE_FIELD_NUMBER: _ClassVar[int]
    SILENT_FIELD_NUMBER: _ClassVar[int]
    scope: str
    mutating: bool
    max_seconds: int
    ownership: Ownership
    admin_scope: str
    silent: bool
    def __init__(self, scope: _Optional[str] = ..., mutating: bool = ..., max_seconds: _Optional[int] = ..., ownership: _Optional[_Union[Ownership, str]] = ..., admin_scope: _Optional[str] = ..., silent: bool = ...) -> None: ...
