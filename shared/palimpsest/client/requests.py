"""From keyword arguments to request messages, with errors that name the field."""

import difflib
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from google.protobuf.message import Message

M = TypeVar("M", bound=Message)


FLAT = "sampling"
"""The field whose own fields may be given beside it: ``temperature=`` for ``sampling={"temperature": ...}``."""
_OTHER_NAMES = {"messages": "chat"}


class FieldValueError(ValueError):
    """A value that its field cannot hold; the message names the field."""


def build(cls: type[M], fields: Mapping[str, object], where: str) -> M:
    """Return the request that the keyword arguments describe.

    Nested messages may be dicts; a message that only wraps a list may be that list; enums may be names,
    whole or without their prefix, in any case. None leaves a field unset. A request_id that the message has
    and the caller did not choose is a fresh UUID, which is what makes repeating the call safe.

    Parameters
    ----------
    cls, fields
        The message's class, and its fields by name.
    where
        What to call the request in complaints, such as ``"register_model()"``.

    Raises
    ------
    TypeError
        A field that does not exist, of the wrong type, or two of which only one may be set.
    FieldValueError
        A number that does not fit its field, text that is not UTF-8, or an enum value that does not exist.
    """
    message = cls()
    _fill(message, _in_place(cls.DESCRIPTOR, fields, where), where, "")
    if "request_id" in cls.DESCRIPTOR.fields_by_name and fields.get("request_id") is None:
        message.request_id = str(uuid.uuid4())  # type: ignore[attr-defined]
    return message


def short_fields(request: Any) -> list[tuple[str, Any]]:
    """Return what a request may be given beside its own fields: names, and the fields they stand for.

    Those of its ``sampling``, as far as it has none of that name itself; ``messages`` for ``chat``, as others call it.
    """
    own = request.fields_by_name
    found = [(f.name, f) for f in own[FLAT].message_type.fields if f.name not in own] if FLAT in own else []
    return found + [
        (other, own[name]) for other, name in _OTHER_NAMES.items() if name in own and other not in own
    ]


def listed(request: Any, response: Any) -> Any:
    """Return the field with the items of a list that comes in pages; None for the answer of any other call."""
    if "page_token" not in request.fields_by_name or "next_page_token" not in response.fields_by_name:
        return None
    items = [f for f in response.fields if f.is_repeated and f.message_type is not None]
    return items[0] if len(items) == 1 else None


def _in_place(request: Any, fields: Mapping[str, object], where: str) -> Mapping[str, object]:
    """Return the fields with those given by a short name where they belong."""
    moved, placed = {}, dict(fields)
    for name, field in short_fields(request):
        value = placed.pop(name, None)
        if value is None:
            continue
        if field.containing_type is not request:
            moved[name] = value
        elif placed.get(field.name) is not None:
            raise TypeError(f"{where} takes only one of {field.name} and {name}, which are the same.")
        else:
            placed[field.name] = value
    if moved:
        inner = placed.get(FLAT)
        if inner is None:
            placed[FLAT] = moved
        elif isinstance(inner, Message):
            placed[FLAT] = message = type(inner)()
            message.CopyFrom(inner)
            _fill(message, moved, where, f"{FLAT}.")
        elif isinstance(inner, Mapping):
            placed[FLAT] = {**inner, **moved}
    return placed


def _fill(message: Message, fields: Mapping[str, object], where: str, path: str) -> None:
    known = message.DESCRIPTOR.fields_by_name
    for name, value in fields.items():
        field = known.get(name)
        if field is None:
            names = [*known, *(short for short, _ in ([] if path else short_fields(message.DESCRIPTOR)))]
            close = difflib.get_close_matches(str(name), names, n=1, cutoff=0.5)
            hint = f"; did you mean {path}{close[0]}?" if close else f"; it has {', '.join(known) or 'none'}."
            raise TypeError(f"{where} has no field {path}{name}{hint}")
        if value is None:
            continue
        oneof = field.containing_oneof
        if oneof is not None and len(oneof.fields) > 1 and message.WhichOneof(oneof.name) is not None:
            raise TypeError(f"{where} takes only one of {', '.join(f.name for f in oneof.fields)}.")
        try:
            _set(message, field, value, where, path + name)
        except UnicodeError:
            raise FieldValueError(
                f"{where}: {path}{name}: this text holds bytes that are not UTF-8"
            ) from None
        except (TypeError, ValueError, OverflowError) as error:
            if where in str(error):
                raise
            kind = TypeError if isinstance(error, TypeError) else FieldValueError
            raise kind(f"{where}: {path}{name}: {error}") from None


def _set(message: Message, field: Any, value: object, where: str, path: str) -> None:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        if not isinstance(value, Mapping):
            raise TypeError(f"a mapping is needed, not {type(value).__name__}")
        getattr(message, field.name).update(value)
    elif field.is_repeated:
        if isinstance(value, str | bytes) or not isinstance(value, Iterable):
            raise TypeError(f"a list is needed, not {type(value).__name__}")
        target = getattr(message, field.name)
        for index, item in enumerate(value):
            if field.message_type is not None:
                _fill_nested(target.add(), item, where, f"{path}[{index}]")
            else:
                target.append(_scalar(field, item))
    elif field.message_type is not None:
        nested = getattr(message, field.name)
        nested.SetInParent()
        _fill_nested(nested, value, where, path)
    else:
        setattr(message, field.name, _scalar(field, value))


def _fill_nested(message: Message, value: object, where: str, path: str) -> None:
    if isinstance(value, Message):
        message.CopyFrom(value)
    elif isinstance(value, Mapping):
        _fill(message, value, where, path + ".")
    elif (wrapped := wrapped_list(message.DESCRIPTOR)) is not None and isinstance(value, Sequence):
        _fill(message, {wrapped.name: value}, where, path + ".")
    else:
        raise TypeError(f"a {message.DESCRIPTOR.name} or a dict is needed, not {type(value).__name__}")


def wrapped_list(message: Any) -> Any:
    """Return the descriptor of the one repeated field of a message that has no other, or None."""
    fields = message.fields
    return fields[0] if len(fields) == 1 and fields[0].is_repeated else None


def _scalar(field: Any, value: object) -> object:
    if field.enum_type is not None and isinstance(value, str):
        return enum_number(field.enum_type, value)
    return value


def enum_number(enum: Any, name: str) -> int:
    """Return the number of an enum value named whole (RELATION_MERGED) or short (merged).

    Raises
    ------
    ValueError
        There is no such value; the message lists those there are.
    """
    prefix = enum.values_by_number[0].name.removesuffix("UNSPECIFIED") if 0 in enum.values_by_number else ""
    wanted = name.upper().replace("-", "_")
    for candidate in (wanted, prefix + wanted):
        if candidate in enum.values_by_name:
            return enum.values_by_name[candidate].number
    choices = ", ".join(v.name.removeprefix(prefix).lower() for v in enum.values if v.number)
    raise ValueError(f"{name!r} is not one of {choices}")
