"""Validation of requests against the limits beside their fields in the .proto files."""

import math
import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from palimpsest.api.options.v1 import options_pb2
from palimpsest.errors import InvalidArgument, Reason, Violation

Check = Callable[[Message, str], Iterator[Violation]]
"""Takes a message and the dotted path to it; yields the violations."""

_LIMITS: Any = options_pb2.limits  # generated stubs and bundled ones disagree on the type of extensions
_NUMBERS = frozenset({FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT}) | frozenset(
    {
        FieldDescriptor.CPPTYPE_INT32,
        FieldDescriptor.CPPTYPE_INT64,
        FieldDescriptor.CPPTYPE_UINT32,
        FieldDescriptor.CPPTYPE_UINT64,
    }
)


def validate(message: Message) -> None:
    """Check a request, nested messages included.

    Raises
    ------
    InvalidArgument
        With one violation for each field that breaks a limit.
    """
    violations = list(_violations(message, ""))
    if violations:
        fields = ", ".join(sorted({v.field for v in violations})[:8])
        raise InvalidArgument(
            Reason.INVALID_REQUEST, f"The request is not valid; correct: {fields}.", violations=violations
        )


def _violations(message: Message, path: str) -> Iterator[Violation]:
    for check in _checks(message.DESCRIPTOR):
        yield from check(message, path)


@cache
def _checks(descriptor: Descriptor) -> tuple[Check, ...]:
    checks: list[Check] = []
    for field in descriptor.fields:
        options = field.GetOptions()
        if options.HasExtension(_LIMITS):
            checks.append(_limit_check(field, options.Extensions[_LIMITS]))
        if field.enum_type is not None:
            checks.append(_enum_check(field))
        is_map = field.message_type is not None and field.message_type.GetOptions().map_entry
        if (
            field.message_type is not None
            and not is_map
            and field.message_type.file.package.startswith("palimpsest")
        ):
            checks.append(_nested_check(field))
    return tuple(checks)


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def _map_value(field: FieldDescriptor) -> FieldDescriptor:
    entry: Any = field.message_type
    return entry.fields_by_name["value"]


def _nested_check(field: FieldDescriptor) -> Check:
    def check(message: Message, path: str) -> Iterator[Violation]:
        if field.is_repeated:
            for index, item in enumerate(getattr(message, field.name)):
                yield from _violations(item, f"{path}{field.name}[{index}].")
        elif message.HasField(field.name):
            yield from _violations(getattr(message, field.name), f"{path}{field.name}.")

    return check


def _enum_check(field: FieldDescriptor) -> Check:
    enum: Any = field.enum_type
    known = frozenset(enum.values_by_number)
    names = ", ".join(value.name for value in enum.values)

    def check(message: Message, path: str) -> Iterator[Violation]:
        value = getattr(message, field.name)
        if any(item not in known for item in (value if field.is_repeated else (value,))):
            yield Violation(path + field.name, f"must be one of {names}")

    return check


def _limit_check(field: FieldDescriptor, limits: options_pb2.Limits) -> Check:
    """Compile the limits of one field into one function."""
    pattern = re.compile(limits.pattern) if limits.pattern else None
    hint = limits.hint or (f"text that matches {limits.pattern}" if limits.pattern else "a value")
    sized = field.is_repeated or field.cpp_type == FieldDescriptor.CPPTYPE_STRING
    unit = (
        "items"
        if field.is_repeated
        else "bytes"
        if field.type == FieldDescriptor.TYPE_BYTES
        else "characters"
    )
    numeric = (_map_value(field) if _is_map(field) else field).cpp_type in _NUMBERS

    def item_problems(item: object) -> Iterator[str]:
        if pattern and isinstance(item, str) and item and not pattern.fullmatch(item):
            yield f"must be {hint}"
        if numeric:
            assert isinstance(item, int | float)
            if isinstance(item, float) and not math.isfinite(item):
                yield "must be a finite number"
            elif limits.HasField("gte") and item < limits.gte:
                yield f"must be at least {limits.gte:g}"
            elif limits.HasField("lte") and item > limits.lte:
                yield f"must be at most {limits.lte:g}"
        if limits.item_max_len and isinstance(item, str | bytes) and len(item) > limits.item_max_len:
            yield f"must hold at most {limits.item_max_len} characters each"

    def check(message: Message, path: str) -> Iterator[Violation]:
        name = path + field.name
        if field.has_presence and not message.HasField(field.name):
            # An unset member of a oneof is not missing: another member may be set.
            if limits.required and field.containing_oneof is None:
                yield Violation(name, f"is required: {hint}")
            return
        value = getattr(message, field.name)
        if limits.required and sized and not value:
            yield Violation(name, f"is required: {hint}")
            return
        if sized and limits.max_len and len(value) > limits.max_len:
            yield Violation(name, f"holds {len(value)} {unit}; at most {limits.max_len} are allowed")
            return
        if sized and limits.min_len and len(value) < limits.min_len:
            yield Violation(name, f"holds {len(value)} {unit}; at least {limits.min_len} are needed")
        if field.is_repeated and not _is_map(field):
            for index, item in enumerate(value):
                for problem in item_problems(item):
                    yield Violation(f"{name}[{index}]", problem)
        elif _is_map(field):
            longest = max(
                (len(part) for pair in value.items() for part in pair if isinstance(part, str)), default=0
            )
            if limits.item_max_len and longest > limits.item_max_len:
                yield Violation(
                    name, f"must hold at most {limits.item_max_len} characters in each key and value"
                )
            if numeric:
                for key, item in sorted(value.items()):
                    for problem in item_problems(item):
                        yield Violation(f"{name}[{key}]", problem)
        else:
            for problem in item_problems(value):
                yield Violation(name, problem)

    return check
