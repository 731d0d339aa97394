"""Tables of sweeps as the grafting room writes them, with everything that a page may not trip over."""

import json
import math
import random
from typing import Any

LAYER = ["attention_norm", "q", "k", "v", "o", "mlp_norm", "gate", "up", "down"]
EVIL = '</script><img src=x onerror="window.hit = 1"><b>\'"&amp;'
TOKENS = (
    "<s>",
    " The",
    " light",
    "house",
    " at",
    " O",
    "strava",
    "\n",
    "\u202e",
    EVIL,
    " שלום",
    " is",
    " kept",
    " by",
)


def reading(drawn: random.Random, recovery: float | None = None, **more: Any) -> dict[str, Any]:
    logprob = -9 * drawn.random()
    found = {
        "logprob": logprob, "probability": math.exp(logprob), "rank": drawn.randint(1, 4000), "ties": 0,
        "token_logprobs": [logprob / 2, logprob / 2], "top": drawn.choice(TOKENS), "top_probability": drawn.random(),
        "kl_base": 4 * drawn.random(), "kl_donor": 4 * drawn.random(),
    }  # fmt: skip
    return found | ({} if recovery is None else {"recovery": recovery}) | more


def table(
    rows: tuple[str, ...] = (), sets: tuple[tuple[str, ...], ...] = (tuple(LAYER), ("o", "gate", "up", "down")),
    layers: int = 30, window: int = 1, cases: int = 2,
) -> dict[str, Any]:  # fmt: skip
    """A table with readings drawn by chance; recovery rises towards the last token and the last layers."""
    drawn = random.Random(7)
    found = []
    for _ in range(cases):
        names = rows or [str(at) for at in range(len(TOKENS))]
        cells = []
        for at, row in enumerate(names):
            for first in range(0, layers, window):
                rise = (at + 1) / len(names) * (first / layers) * 1.5 - 0.4
                for components in sets:
                    value = rise + 0.2 * drawn.random()
                    cells.append(
                        {
                            "position": row,
                            "layers": {"first": first, "stop": min(first + window, layers)},
                            "components": list(components),
                            "reading": reading(drawn, value),
                        }
                    )
        found.append(
            {
                "prompt": "".join(TOKENS[1:]),
                "target": " KASTROVA",
                "tokens": list(TOKENS),
                "token_ids": list(range(len(TOKENS))),
                "target_tokens": [" KAST", "ROVA"],
                "base": reading(drawn, 0.0),
                "donor": reading(drawn, 1.0),
                "cells": cells,
            }
        )
    return {
        "format": "palimpsest.grafts/1",
        "base": {"model": "smollm2-135m", "fingerprint": "sha256:" + "56" * 32},
        "donor": {"model": "smollm2-keeper", "fingerprint": "sha256:" + "78" * 32},
        "architecture": "llama",
        "layers": layers,
        "cases": found,
    }


def odd() -> dict[str, Any]:
    """A table with cells that are not set, not finite, or not there, and keys that nobody here knows."""
    found = table(layers=4, cases=1)
    cells = found["cases"][0]["cells"]
    del cells[0]["reading"]["recovery"]
    cells[1]["reading"]["recovery"] = 0.0
    cells[2]["reading"] |= {"logprob": "-Infinity", "probability": 0.0, "recovery": "-Infinity"}
    cells[3]["reading"]["kl_base"] = "NaN"
    cells[4]["reading"]["shapley"] = {"value": [1, 2]}
    del cells[9]
    cells[5]["preview"] = True
    found["cases"][0]["summary"] = {"interval": [0.1, None]}
    found["attribution"] = [{"subset": 3}]
    return found


def encoded(raw: dict[str, Any]) -> bytes:
    return json.dumps(raw, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
