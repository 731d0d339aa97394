"""What notebooks show of the client's objects: HTML that loads nothing, with all text of others escaped."""

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

_LONGEST = 80
"""Characters of a cell."""


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table; every cell is text."""
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = "".join(f"<tr>{''.join(f'<td>{_cell(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def link(label: str, uri: str) -> str:
    """Return a label, linked if it is on the web: other schemes could run code."""
    if uri.startswith(("http://", "https://")):
        return f'<a href="{escape(uri)}">{escape(label)}</a>'
    return escape(label)


def messages_table(items: Sequence[Message]) -> str:
    """Return messages of one kind as a table with their plain fields, leaving out those that are empty in all."""
    if not items:
        return "<p>(empty)</p>"
    fields = [
        field
        for field in items[0].DESCRIPTOR.fields
        if not field.is_repeated
        and (field.message_type is None or field.message_type.full_name == Timestamp.DESCRIPTOR.full_name)
        and any(getattr(item, field.name) != _empty(field) for item in items)
    ]
    rows = [[_value(field, getattr(item, field.name)) for field in fields] for item in items]
    return table([field.name for field in fields], rows)


def _empty(field: Any) -> object:
    return Timestamp() if field.message_type is not None else field.default_value


def _value(field: Any, value: Any) -> object:
    if isinstance(value, Timestamp):
        return value.ToDatetime().strftime("%Y-%m-%d %H:%M:%S") if value.seconds else ""
    if field.type == FieldDescriptor.TYPE_ENUM:
        known = field.enum_type.values_by_number.get(value)
        prefix = field.enum_type.values_by_number[0].name.removesuffix("UNSPECIFIED")
        return known.name.removeprefix(prefix).lower() if known else value
    return value


def _cell(value: object) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return escape(text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…")
