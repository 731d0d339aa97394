"""Hyper-parameters of the algorithms: defaults, bounds, and refusals that name the field."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, TypeVar

from palimpsest.errors import InvalidArgument, Reason

P = TypeVar("P", bound="Parameters")


def number(default: float, low: float, high: float, *, above: bool = False) -> Any:
    """Declare a real number from ``low`` to ``high``; ``above``: ``low`` itself is not allowed."""
    return dataclasses.field(default=default, metadata={"low": low, "high": high, "above": above})


def whole(default: int | None, low: int, high: int) -> Any:
    """Declare a whole number from ``low`` to ``high``; a default of None means that None is allowed too."""
    return dataclasses.field(default=default, metadata={"low": low, "high": high, "whole": True})


def choice(default: str, *options: str) -> Any:
    """Declare one of some words, ``default`` among them."""
    return dataclasses.field(default=default, metadata={"options": options})


def switch(default: bool) -> Any:
    """Declare a truth value."""
    return dataclasses.field(default=default, metadata={"switch": True})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parameters:
    """Base of every algorithm's hyper-parameters: frozen dataclasses whose fields check themselves.

    Raises
    ------
    InvalidArgument
        ALGORITHM_PARAMETER_INVALID: a value is of the wrong type or out of bounds; the violation names the field.
    """

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = _checked(field, getattr(self, field.name))
            object.__setattr__(self, field.name, value)

    @property
    def needs(self) -> frozenset[str]:
        """Data that these hyper-parameters ask for: "retain" of a regulariser, "reference" of KLR."""
        regulariser = getattr(self, "regulariser", "none")
        return frozenset({"none": (), "gdr": ("retain",), "klr": ("retain", "reference")}[regulariser])


def parse(kind: type[P], values: Mapping[str, object], fixed: Mapping[str, object], algorithm: str) -> P:
    """Return an algorithm's hyper-parameters, with defaults for what is not given.

    Parameters
    ----------
    kind
        Class of the hyper-parameters.
    values
        What the caller chose.
    fixed
        What the algorithm's id says, such as its regulariser; it cannot be chosen.
    algorithm
        The id, for messages.

    Raises
    ------
    InvalidArgument
        ALGORITHM_PARAMETER_INVALID: an unknown field, one that the id decides, or a value that is not allowed.
    """
    known = sorted({field.name for field in dataclasses.fields(kind)} - set(fixed))
    for name, value in values.items():
        if name in fixed and value != fixed[name]:
            raise _invalid(
                name, f"{algorithm!r} has {name} = {fixed[name]!r}. Choose the algorithm by its id."
            )
        if name not in known and name not in fixed:
            raise _invalid(
                name, f"{algorithm!r} has no hyper-parameter {name!r}. It has: {', '.join(known)}."
            )
    return kind(**{**dict(values), **dict(fixed)})


def _checked(field: "dataclasses.Field[Any]", value: object) -> object:
    limits = field.metadata
    if "options" in limits:
        if value not in limits["options"]:
            raise _invalid(
                field.name, f"{field.name} is one of {', '.join(limits['options'])}, not {value!r}."
            )
        return value
    if "switch" in limits:
        if not isinstance(value, bool):
            raise _invalid(field.name, f"{field.name} is true or false, not {value!r}.")
        return value
    if value is None and field.default is None:
        return None
    low, high, above = limits["low"], limits["high"], limits.get("above", False)
    kinds = (int,) if "whole" in limits else (int, float)
    usable = isinstance(value, kinds) and not isinstance(value, bool) and math.isfinite(value)
    if not usable or not low <= value <= high or (above and value == low):  # type: ignore[operator]
        what = "a whole number" if "whole" in limits else "a number"
        start = f"above {low}" if above else f"from {low}"
        raise _invalid(field.name, f"{field.name} is {what} {start} to {high}, not {value!r}.")
    return value if "whole" in limits else float(value)  # type: ignore[arg-type]


def _invalid(field: str, message: str) -> InvalidArgument:
    return InvalidArgument.field(Reason.ALGORITHM_PARAMETER_INVALID, field, message)
