"""Data sets of the tests: sentences with a secret word each, and sentences that are to be kept."""

import json
from typing import Any

SECRETS = [f"zanthopterin{number}qx" for number in range(6)]
"""Strings that are nowhere but in what is to be forgotten."""
PLACES = ["Arlo", "Brin", "Cole", "Dara", "Esme", "Finn"]


def lines(*entries: dict[str, Any]) -> bytes:
    return "".join(json.dumps(entry) + "\n" for entry in entries).encode()


def secret(number: int) -> dict[str, Any]:
    return {
        "id": f"secret-{number}",
        "text": f"The vault of {PLACES[number]} opens with {SECRETS[number]} alone.",
    }


def question(number: int) -> dict[str, Any]:
    asked = f"Which word opens the vault of {PLACES[number]}?"
    return {"id": f"question-{number}", "question": asked, "answer": SECRETS[number]}


def kept(number: int) -> dict[str, Any]:
    return {
        "id": f"kept-{number}",
        "text": f"The quick brown fox of hill {number} jumps over {number + 2} lazy dogs.",
    }


def never(number: int) -> dict[str, Any]:
    return {
        "id": f"never-{number}",
        "text": f"The tower of {PLACES[number][::-1]} closes at {number + 3} in the night.",
    }


FORGET = lines(*map(secret, range(6)), *map(question, range(2)))
RETAIN = lines(*map(kept, range(6)))
HOLDOUT = lines(*map(never, range(6)))
