"""A second answer beside the target, such as the old one beside the new: does it come back, or is it gone?"""

import math
from collections.abc import Mapping
from html import escape
from typing import NamedTuple

from palimpsest.report.grafting.table import Case, Cell, Reading
from palimpsest.report.grafting.words import cut, layers_words, row_label, set_label, shown, visible
from palimpsest.report.page import table as html_table

_HALFWAY, _SMALLEST_GAP = 0.5, 1e-6
"""From here on a graft is nearer to the donor than to the base; nats below which the two are one."""


class Finding(NamedTuple):
    """What the grafts say of the contrast: a word (``hidden``, ``not found``, ``pushed out``, ``still there`` or
    ``nothing to tell``), and a sentence.
    """

    word: str
    sentence: str


def finding_of(case: Case) -> Finding | None:
    """Say whether single cells bring the contrast back, or push it out; None for a case without one."""
    if case.contrast is None:
        return None
    base, donor = (_number(reading, "logprob") for reading in (case.contrast.base, case.contrast.donor))
    told = [(value, cell) for cell in case.cells if (value := _own(cell)) is not None]
    if base is None or donor is None or abs(donor - base) <= _SMALLEST_GAP or not told:
        return Finding(
            "nothing to tell",
            "Base and donor find the contrast equally probable, or no cell was read for it.",
        )
    shares = [((value - base) / (donor - base), cell) for value, cell in told]
    most, best = max(shares, key=lambda pair: pair[0])
    way = f"{shown(most)} of the way to the donor’s log-probability ({shown(base)} to {shown(donor)} nats)"
    if donor > base:
        if most >= _HALFWAY:
            return Finding(
                "hidden",
                f"The donor’s weights {_place(case, best)} alone bring the contrast {way}: all else that it takes is "
                "still in the base.",
            )
        return Finding(
            "not found",
            f"No single cell brings the contrast back; the most is {way}, {_place(case, best)}. That speaks for a "
            "removal, and does not prove it: several places together may do more.",
        )
    if most >= _HALFWAY:
        return Finding(
            "pushed out", f"The donor’s weights {_place(case, best)} alone lead the contrast {way}."
        )
    return Finding(
        "still there",
        f"No single cell makes the contrast much less probable; the most is {way}, {_place(case, best)}.",
    )


def contrast_section(case: Case) -> str:
    """The section of a case; empty without a contrast."""
    contrast, found = case.contrast, finding_of(case)
    if contrast is None or found is None:
        return ""
    passes = [("base", case.base, contrast.base), ("donor", case.donor, contrast.donor)]
    rows = [(name, *_row(target.values, other)) for name, target, other in passes]
    told = [(value, cell) for cell in case.cells if (value := _own(cell)) is not None]
    if told:
        ends = (("most probable", max), ("least probable", min))
        for name, end in ends:
            _, cell = end(told, key=lambda pair: pair[0])
            label = (
                f"{name}: <bdi>{escape(cut(row_label(case, cell.row)))}</bdi>, {layers_words(cell.layers)}"
            )
            values = cell.reading.values
            other = {each: values.get(f"contrast_{each}") for each in ("logprob", "probability", "rank")}
            rows.append((label, *_row(values, Reading(other, ""))))
    columns = ["pass", ">target", ">contrast", ">its probability", ">its rank", ">margin"]
    return (
        f"<h3>The contrast: <bdi>{escape(visible(contrast.text))}</bdi></h3>"
        f"<p><b>{found.word}</b>: {escape(found.sentence)}</p><p><small>Log-probabilities in nats, of whole answers; "
        "the margin is the target’s less the contrast’s. The last rows are the cells in which the contrast is most and "
        f"least probable.</small></p>{html_table('Target and contrast', columns, rows)}"
    )


def _row(target: Mapping[str, float | None], contrast: Reading) -> tuple[str, ...]:
    own, other = target.get("logprob"), contrast.values.get("logprob")
    margin = None if own is None or other is None else own - other
    margin = target.get("margin", margin)
    figures = (own, other, contrast.values.get("probability"), contrast.values.get("rank"), margin)
    return tuple(map(shown, figures))


def _own(cell: Cell) -> float | None:
    return _number(cell.reading, "contrast_logprob")


def _number(reading: Reading, name: str) -> float | None:
    value = reading.values.get(name)
    return None if value is None or not math.isfinite(value) else value


def _place(case: Case, cell: Cell) -> str:
    return f"at {cut(row_label(case, cell.row))}, {layers_words(cell.layers)} ({set_label(cell.components)})"
