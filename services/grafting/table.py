"""The table of a sweep, as JSON."""

import json
from collections.abc import Sequence
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from palimpsest.api.grafting.v1 import grafting_pb2 as pb
from services.grafting.attribution.results import cells_of, key_of
from services.grafting.convert import token_texts
from services.grafting.pairs import Pair
from services.grafting.sweeps import Grid


def table_of(
    grid: Grid, pieces: Sequence[pb.SweptCells], found: pb.GraftSweep, pair: Pair, form: str
) -> bytes:
    """Write a finished sweep: the same bytes for the same cells, in the order of the grid.

    Parameters
    ----------
    grid
        What was asked for.
    pieces
        Of all cases; a case's cells may be in several.
    found
        What the sweep says beyond its cells, whole.
    pair
        The models.
    form
        Name and version of the format.
    """
    cases = []
    for number, (prompt, case) in enumerate(grid.prompts):
        own = [piece for piece in pieces if piece.case == number]
        asked = grid.cases[number]
        cases.append(
            {
                "prompt": prompt.text,
                "target": asked.target,
                "tokens": token_texts(pair.tokenizer, prompt.ids),
                "token_ids": list(prompt.ids),
                "target_tokens": token_texts(pair.tokenizer, case.target),
                "base": _plain(own[0].base),
                "donor": _plain(own[0].donor),
                **_contrast(asked.contrast, own),
                "cells": [_plain(cell) for cell in _complete(grid, number, own)],
                "values": [_plain(piece.values) for piece in own if piece.HasField("values")],
            }
        )
    base, *donors = (pair.records[0], pair.records[1], *pair.further)
    donor = donors[0]
    table = {
        "format": form,
        "base": {"model": base.model_id, "fingerprint": base.fingerprint},
        "donor": {"model": donor.model_id, "fingerprint": donor.fingerprint},
        "others": [{"model": each.model_id, "fingerprint": each.fingerprint} for each in donors[1:]],
        "architecture": pair.grafter.architecture.name,
        "layers": pair.facts.layers,
        "cases": cases,
        "summaries": [_plain(each) for each in found.summaries],
        "sufficient": [_plain(each) for each in found.sufficient],
        "previews": [_plain(each) for each in found.previews],
    }
    return json.dumps(table, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def _complete(grid: Grid, case: int, own: Sequence[pb.SweptCells]) -> list[pb.GraftCell]:
    """Cells in the order of the grid, with the contrast of those that were estimated before they were grafted."""
    told = {key_of(c): c.contrast for piece in own for c in piece.cells if c.HasField("contrast")}
    found = cells_of(grid, case, own)
    for cell in found:
        if key_of(cell) in told:
            cell.contrast.CopyFrom(told[key_of(cell)])
    return found


def _contrast(text: str, own: Sequence[pb.SweptCells]) -> dict[str, Any]:
    """What both models say of a case's contrast; nothing without one."""
    found = next((piece.contrast for piece in own if piece.HasField("contrast")), None)
    if found is None:
        return {}
    plain = {name: _plain(getattr(found, name)) for name in ("base", "donor")}
    return {
        "contrast": {
            "text": text, **plain, "base_margin": found.base_margin, "donor_margin": found.donor_margin,
        }
    }  # fmt: skip


def _plain(message: Message) -> dict[str, Any]:
    """A message as JSON has it, with zeros; infinities are strings, as in the contract's JSON."""
    plain = MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    return plain
