"""Rates, sizes and times as people write them, and back."""

import re

import typer

_PREFIXES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 2**10, "mi": 2**20, "gi": 2**30}
_QUANTITY = re.compile(r"([0-9]*\.?[0-9]+(?:e[+-]?[0-9]+)?)\s*([a-zA-Z/]*)")
_RATE = re.compile(r"(?P<prefix>[kKmMgG]i?)?(?:(?P<bits>bits?|b)|(?:B|[Bb]ytes?))(?:/s|ps)")
_SECONDS = {"ms": 0.001, "": 1.0, "s": 1.0, "sec": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


def rate(text: str, option: str = "--bandwidth") -> float:
    """Read a bandwidth such as ``20Mbps``, ``20 Mbit/s`` or ``2.5MB/s``; return bytes a second, 0 for no text.

    Raises
    ------
    typer.BadParameter
        It has no unit that says bits or bytes, or is none at all.
    """
    if not text.strip():
        return 0.0
    number, unit = _split(text, option)
    match = _RATE.fullmatch(unit)
    if not match:
        raise typer.BadParameter(f"{text!r} is no bandwidth; write 20Mbps or 2.5MB/s", param_hint=option)
    found = number * _PREFIXES[(match["prefix"] or "").lower()] / (8 if match["bits"] else 1)
    if found <= 0:
        raise typer.BadParameter("a bandwidth is above 0", param_hint=option)
    return found


def seconds(text: str, option: str = "--deadline") -> float:
    """Read a time such as ``500ms``, ``2s`` or ``1.5``; return seconds, 0 for no text.

    Raises
    ------
    typer.BadParameter
        It is none.
    """
    if not text.strip():
        return 0.0
    number, unit = _split(text, option)
    if unit.lower() not in _SECONDS:
        raise typer.BadParameter(f"{text!r} is no time; write 500ms or 2s", param_hint=option)
    return number * _SECONDS[unit.lower()]


def show_rate(bytes_per_second: float) -> str:
    """Return a bandwidth for people, in bits as networks count: ``20.0 Mbit/s``."""
    value = bytes_per_second * 8
    for unit in ("bit/s", "kbit/s", "Mbit/s"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} Gbit/s"


def show_seconds(value: float) -> str:
    """Return a time for people: ``340 ms``, ``2.10 s``."""
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.2f} s" if value < 100 else f"{value:.0f} s"


def _split(text: str, option: str) -> tuple[float, str]:
    match = _QUANTITY.fullmatch(text.strip())
    if not match:
        raise typer.BadParameter(f"{text!r} is not a number with a unit", param_hint=option)
    return float(match[1]), match[2]
