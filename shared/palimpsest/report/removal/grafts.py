"""Whether a removal took a fact out or hid it: the weights of the model before, grafted into the model after."""

import math
from html import escape
from typing import NamedTuple

from palimpsest.api.unlearning.v1 import unlearning_pb2 as pb
from palimpsest.errors import InvalidArgument, Reason
from palimpsest.report.grafting.grid import grid, legend, sentence
from palimpsest.report.grafting.page import facts_of, own_passes, paths_table
from palimpsest.report.grafting.pathways import paths_of
from palimpsest.report.grafting.table import Case, Table
from palimpsest.report.grafting.words import (
    MEASURES,
    cut,
    layers_words,
    row_label,
    set_label,
    shell_word,
    shown,
    visible,
)

_HALFWAY = 0.5
"""From here on a pass is nearer to the model before than to the model after."""

WHY = (
    "A removal may take a fact out of the weights, or only keep it from coming out. Grafts tell: the weights of the "
    "model before act in the model after, at one token and in a few layers at a time. Where that brings the answer "
    "back, everything else that the answer takes is still there."
)


class Finding(NamedTuple):
    """What the grafts of one case say: a word, and a sentence.

    Attributes
    ----------
    word
        ``hidden``, ``not found``, ``not forgotten`` or ``nothing to tell``.
    sentence
        With the figures that it rests on.
    """

    word: str
    sentence: str


def graft_commands(request: pb.RemovalRequest) -> str:
    """The commands that graft the model before into the model after, and put what they find into the report.

    The words ``PROMPT`` and ``ANSWER`` stand for what was forgotten, which no report repeats. Empty where there are no
    two models.
    """
    plan, name = request.plan, request.name.rpartition("/")[2]
    if not request.result.new_model_fingerprint or request.state == pb.REMOVAL_STATE_ROLLED_BACK:
        return ""
    return (
        f"palimpsest graft sweep {shell_word(plan.new_model)} {shell_word(plan.model)} --prompt 'PROMPT' "
        "--target ' ANSWER' --out grafts.json\n"
        f"palimpsest unlearn report {shell_word(name)} --html report.html --graft grafts.json"
    )


def require_same_models(request: pb.RemovalRequest, table: Table) -> None:
    """Refuse a sweep of other models than the request's.

    Raises
    ------
    InvalidArgument
        INVALID_REQUEST.
    """
    result = request.result
    swept = {table.base.fingerprint, table.donor.fingerprint}
    if not result.new_model_fingerprint or swept != {result.model_fingerprint, result.new_model_fingerprint}:
        message = (
            f"The sweep is of {table.base.id} and {table.donor.id}, and these are not the models before and after "
            f"{request.name}: their fingerprints differ."
        )
        raise InvalidArgument.field(Reason.INVALID_REQUEST, "graft", message)


def finding_of(request: pb.RemovalRequest, table: Table, case: Case) -> Finding:
    """What a case's grafts say of the removal."""
    if table.base.fingerprint != request.result.new_model_fingerprint:
        why = "Here the model after is grafted into the model before, which shows what makes it forget."
        return Finding("nothing to tell", f"{why} Sweep them the other way round to see what brings it back.")
    after, before = case.base.values, case.donor.values
    if after.get("rank") == 1:
        return Finding("not forgotten", "The model after still puts the beginning of the target first.")
    if (after.get("logprob") or 0.0) >= (before.get("logprob") or 0.0):
        return Finding(
            "nothing to tell", "The model before finds the target no more probable than the model after."
        )
    single = [each for each in paths_of(case) if each.path != "both"]
    told = [(each.cell.reading.values.get("recovery"), each) for each in single]
    found = [(value, each) for value, each in told if value is not None and not math.isnan(value)]
    if not found:
        return Finding("nothing to tell", "No cell at a single place has a recovery.")
    most, best = max(found, key=lambda pair: pair[0])
    where = f"at {cut(row_label(case, best.cell.row))}, {layers_words(best.cell.layers)} ({set_label(best.components)})"
    if most >= _HALFWAY:
        return Finding(
            "hidden",
            f"The weights of the model before {where} alone lead {shown(most)} of the way back: all else that the "
            "answer takes is still in the model after.",
        )
    return Finding(
        "not found",
        f"No single place brings the answer back; the most is {shown(most)} of the way, {where}. That speaks for a "
        "removal, and does not prove it: several places together may do more.",
    )


def grafts_section(request: pb.RemovalRequest, table: Table | None) -> str:
    """The section of the page: how to find out, and what was found if a sweep is there."""
    found = f"<p>{WHY}</p>"
    if commands := graft_commands(request):
        found += (
            "<p>Ask with a prompt about what was forgotten, and its answer:</p>"
            f'<pre tabindex="0" aria-label="Commands that graft the models">{escape(commands)}</pre>'
        )
    else:
        found += "<p>There are no two models to graft.</p>"
    if table is None:
        return found
    return found + facts_of(table) + "".join(_case(request, table, case) for case in table.cases)


def _case(request: pb.RemovalRequest, table: Table, case: Case) -> str:
    finding = finding_of(request, table, case)
    maps = "".join(
        f"<h3>Grafted: {escape(set_label(components))}</h3>{grid(case, components, MEASURES[0], live=False)}"
        for components in case.sets
    )
    return (
        f'<div class="case"><p><b>{escape(finding.word)}</b>: {escape(finding.sentence)}</p>{sentence(case)}'
        f"{legend(case, MEASURES[0])}{maps}{own_passes(case)}{paths_table(case, paths_of(case))}</div>"
    )


def title_of(case: Case) -> str:
    """A case in one line."""
    return f"{cut(visible(case.prompt), 80)} → {cut(visible(case.target), 40)}"
