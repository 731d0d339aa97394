"""The table of a sweep, as JSON."""

import json
from collections.abc import Sequence
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from palimpsest.api.grafting.v1 import grafting_pb2 as pb
from services.grafting.convert import token_texts
from services.grafting.pairs import Pair
from services.grafting.sweeps import Grid


def table_of(grid: Grid, pieces: Sequence[pb.SweptCells], pair: Pair, form: str) -> bytes:
    """Write a finished sweep: the same bytes for the same cells, in the order of the grid.

    Parameters
    ----------
    grid
        What was asked for.
    pieces
        Of all cases; a case's cells may be in several.
    pair
        The models.
    form
        Name and version of the format.
    """
    cases = []
    for number, (prompt, case) in enumerate(grid.prompts):
        own = [piece for piece in pieces if piece.case == number]
        order = {(c.position, c.layers.start, c.components): at for at, c in enumerate(grid.cells_of(number))}
        cells = sorted(
            (cell for piece in own for cell in piece.cells),
            key=lambda c: order[c.position, c.layers.first, tuple(c.components)],
        )
        cases.append(
            {
                "prompt": prompt.text,
                "target": grid.cases[number].target,
                "tokens": token_texts(pair.tokenizer, prompt.ids),
                "token_ids": list(prompt.ids),
                "target_tokens": token_texts(pair.tokenizer, case.target),
                "base": _plain(own[0].base),
                "donor": _plain(own[0].donor),
                "cells": [_plain(cell) for cell in cells],
            }
        )
    base, donor = pair.records
    table = {
        "format": form,
        "base": {"model": base.model_id, "fingerprint": base.fingerprint},
        "donor": {"model": donor.model_id, "fingerprint": donor.fingerprint},
        "architecture": pair.grafter.architecture.name,
        "layers": pair.facts.layers,
        "cases": cases,
    }
    return json.dumps(table, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def _plain(message: Message) -> dict[str, Any]:
    """A message as JSON has it, with zeros; infinities are strings, as in the contract's JSON."""
    plain = MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    return plain
