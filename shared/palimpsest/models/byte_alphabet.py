"""The characters that stand for bytes in byte-level vocabularies (GPT-2's and its descendants')."""

from functools import cache


@cache
def byte_alphabet() -> dict[str, int]:
    """The byte that each stand-in character is for: printable ones for themselves, others from U+0100 on."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    shifted = [b for b in range(256) if b not in plain]
    return {chr(b): b for b in plain} | {chr(256 + n): b for n, b in enumerate(shifted)}
