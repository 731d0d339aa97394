"""Printing: tables and text for people, one JSON document or JSON lines for programs."""

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from google.longrunning import operations_pb2
from google.protobuf import any_pb2, timestamp_pb2
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from rich.console import Console
from rich.table import Table
from rich.text import Text

from palimpsest.client.methods import unpack
from palimpsest.errors import PalimpsestError

_WIDE = 240
"""Width of a table that does not go to a terminal: a pipe must not truncate cells."""

EnumName = Callable[[Any, int], str | int]
"""Names an enum's value, from its descriptor and the number."""

_for_programs = False

_BINARY = ["B", "KiB", "MiB", "GiB", "TiB"]


@contextmanager
def for_programs(wanted: bool) -> Iterator[None]:
    """Print for programs (--json) meanwhile: standard error has an error alone then, and no line about progress."""
    global _for_programs
    before, _for_programs = _for_programs, wanted
    try:
        yield
    finally:
        _for_programs = before


def tells_progress() -> bool:
    """Whether somebody reads lines about progress."""
    return not _for_programs


def console(*, stderr: bool = False) -> Console:
    """Return a console on the stream as it is now; wide where that is no terminal."""
    stream = sys.stderr if stderr else sys.stdout
    return Console(file=stream, width=None if stream.isatty() else _WIDE, highlight=False, soft_wrap=True)


def plain(message: Message) -> dict[str, Any]:
    """Return a message as JSON-able data: proto names, numbers as numbers, enum names, RFC 3339 times.

    Fields that are not set are there with their defaults, so that programs need not ask, except messages and
    ``optional`` ones, whose absence means something.
    """
    return _fields(message, _whole)


def readable(message: Message) -> dict[str, Any]:
    """Return a message as :func:`plain` does, for people: enum values are short, such as ``failed``."""
    return _fields(message, short_name)


def _whole(enum: Any, number: int) -> str | int:
    known = enum.values_by_number.get(number)
    return known.name if known else number


def short_name(enum: Any, number: int) -> str | int:
    """Return an enum's value as people say it: ``fine_tuned`` for RELATION_FINE_TUNED, a dash for an unset one."""
    known, first = enum.values_by_number.get(number), enum.values_by_number.get(0)
    if known is None or first is None or not first.name.endswith("UNSPECIFIED"):
        return known.name if known else number
    return known.name.removeprefix(first.name.removesuffix("UNSPECIFIED")).lower() if number else "-"


def _fields(message: Message, name: EnumName) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for field in message.DESCRIPTOR.fields:
        if field.has_presence and not message.HasField(field.name):
            continue
        value = getattr(message, field.name)
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            result[field.name] = dict(value)
        elif field.is_repeated:
            result[field.name] = [_value(field, item, name) for item in value]
        else:
            result[field.name] = _value(field, value, name)
    return result


def _value(field: Any, value: Any, name: EnumName) -> Any:
    if isinstance(value, timestamp_pb2.Timestamp):
        return value.ToJsonString()
    if isinstance(value, any_pb2.Any):
        try:
            return _fields(unpack(value), name)
        except KeyError:
            return {"type": value.TypeName()}
    if isinstance(value, Message):
        return _fields(value, name)
    if field.type == FieldDescriptor.TYPE_ENUM:
        return name(field.enum_type, value)
    if isinstance(value, bytes):
        return value.decode(errors="backslashreplace")
    return value


def print_json(data: object) -> None:
    """Print one JSON document on one line, at once."""
    if isinstance(data, Message):
        data = plain(data)
    sys.stdout.write(json.dumps(data, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str = "") -> None:
    """Print rows under column names; a column named with a leading ``>`` holds numbers."""
    table = Table(title=title or None, header_style="bold", title_justify="left")
    for column in columns:
        table.add_column(column.lstrip(">"), justify="right" if column[0] == ">" else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(str(cell)) for cell in row))
    console().print(table)


def print_fields(fields: Mapping[str, object]) -> None:
    """Print names and values, one a line."""
    width = max(map(len, fields), default=0)
    for name, value in fields.items():
        if isinstance(value, dict | list):
            value = json.dumps(value, ensure_ascii=False)
        sys.stdout.write(f"{name:<{width}}  {value}\n")


def note(text: str) -> None:
    """Print a note, separate from the data output."""
    console(stderr=True).print(Text(text))


def complain(error: PalimpsestError, *, as_json: bool) -> None:
    """Print an error on standard error."""
    if as_json:
        document = {
            "code": error.code.name,
            "reason": error.reason,
            "message": error.message,
            "metadata": error.metadata,
            "violations": [violation._asdict() for violation in error.violations],
            "retry_after": error.retry_after,
        }
        sys.stderr.write(json.dumps({"error": document}, ensure_ascii=False) + "\n")
    else:
        console(stderr=True).print(Text(f"Error: {error}", style="red"))


def size(count: float) -> str:
    """Return a number of bytes for people: ``1.5 MiB``."""
    for unit in _BINARY[:-1]:
        if abs(count) < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} {_BINARY[-1]}"


def when(time: timestamp_pb2.Timestamp) -> str:
    """Return a time for people, in local time; a dash for one that is not set."""
    if not time.seconds:
        return "-"
    return datetime.fromtimestamp(time.seconds, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def state_name(operation: operations_pb2.Operation) -> str:
    """Return a job's state as people say it: ``running``."""
    from palimpsest.api.jobs.v1 import jobs_pb2
    from palimpsest.client.aio.jobs import metadata_of

    return jobs_pb2.JobState.Name(metadata_of(operation).state).removeprefix("JOB_STATE_").lower()
