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


def previewed(*, everything: bool = False) -> dict[str, Any]:
    """A table with estimates, of which all, or the largest and a few others, were grafted; one graft is at -inf."""
    found, drawn = table(sets=(tuple(LAYER),), layers=12, cases=2), random.Random(3)
    checks = []
    for number, case in enumerate(found["cases"]):
        cells, base = case["cells"], case["base"]["logprob"]
        for cell in cells:
            change = 2.0 * cell["reading"]["recovery"]
            cell["reading"] |= {"logprob": base + change, "probability": math.exp(base + change)}
            cell["estimate"] = change + 0.1 * drawn.gauss(0, 1)
        order = sorted(range(len(cells)), key=lambda at: -cells[at]["estimate"])
        top, chosen = order[:20], drawn.sample(order[20:], 10)
        cells[chosen[0]]["reading"] |= {"logprob": "-Infinity", "probability": 0.0, "recovery": "-Infinity"}
        for at in [] if everything else set(order) - {*top, *chosen}:
            del cells[at]["reading"]
        checks.append(
            {"case": number, "cells": len(cells), "top": 20, "random": 10, "correlation": 0.9871, "threshold": 1.75,
             "random_above": 1, "missed_at_most": 41, "largest_error": 0.31}
        )  # fmt: skip
    del checks[1]["correlation"]
    return found | {"previews": checks, "summaries": [], "sufficient": []}


def valued(segments: tuple[str, ...] = ("entity", EVIL, "last")) -> dict[str, Any]:
    """A table with values of segments by case, their means with intervals, and sets that are enough."""
    rows = ("entity", EVIL, "last", "entity+last")
    found, drawn = table(rows=rows, sets=(tuple(LAYER), ("o",)), layers=6, window=3), random.Random(5)
    kinds = [({"first": first, "stop": first + 3}, names) for first in (0, 3) for names in (LAYER, ["o"])]
    for case in found["cases"]:
        case["values"] = [
            {
                "layers": layers,
                "components": names,
                "segments": [
                    {"segment": s, "shapley": drawn.uniform(-0.1, 0.5), "alone": drawn.random(),
                     "without": drawn.random()}
                    for s in segments
                ],
                "interactions": [
                    {"first": a, "second": b, "value": drawn.uniform(-0.4, 0.4)}
                    for at, a in enumerate(segments)
                    for b in segments[at + 1 :]
                ],
            }
            for layers, names in kinds
        ]  # fmt: skip
    found["cases"][1]["values"][0] |= {"segments": [], "interactions": []}
    names = [*rows, *(f"shapley:{s}" for s in segments), "interaction:entity:last"]
    found["summaries"] = [
        {"position": name, "layers": layers, "components": parts, "cases": 2, "mean_recovery": mean,
         "low": mean - 0.2, "high": mean + 0.1}
        for layers, parts in kinds
        for name in names
        for mean in [drawn.uniform(-0.2, 0.9)]
    ]  # fmt: skip
    found["sufficient"] = [
        {"case": 0, "layers": kinds[0][0], "components": LAYER, "threshold": 0.9, "reached": True,
         "positions": ["entity", "13"], "recovery": 0.93, "complement": 0.04, "order": "shapley", "grafts": 12},
        {"case": 0, "layers": kinds[1][0], "components": ["o"], "threshold": 0.9, "reached": False, "positions": [],
         "recovery": 0.4, "order": "shapley", "grafts": 3},
    ]  # fmt: skip
    return found | {"previews": []}


def contrasted(way: float = 0.8, back: bool = True) -> dict[str, Any]:
    """A table with a contrast that single cells lead so much of the way to the donor, up or down from the base's."""
    found, drawn = table(sets=(tuple(LAYER),), layers=6, cases=1), random.Random(9)
    (case,) = found["cases"]
    ends = (-8.0, -2.0) if back else (-2.0, -8.0)
    own = [reading(drawn, logprob=end, probability=math.exp(end)) for end in ends]
    case["contrast"] = {"text": EVIL, "base": own[0], "donor": own[1]}
    for name, other in zip(("base", "donor"), own, strict=True):
        case["contrast"][f"{name}_margin"] = case[name]["logprob"] - other["logprob"]
    for at, cell in enumerate(case["cells"]):
        share = way * (at + 1) / len(case["cells"])
        value = ends[0] + share * (ends[1] - ends[0])
        other = reading(drawn, logprob=value, probability=math.exp(value))
        cell["contrast"] = {"reading": other, "margin": cell["reading"]["logprob"] - value}
    return found


def encoded(raw: dict[str, Any]) -> bytes:
    return json.dumps(raw, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
