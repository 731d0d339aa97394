"""The page of a removal request: what was asked, found, tried and signed, in one file that loads nothing."""

from datetime import UTC, datetime
from html import escape
from string import Template

from google.protobuf import timestamp_pb2

from palimpsest.api.unlearning.v1 import unlearning_pb2 as pb
from palimpsest.report.grafting.style import MAP_STYLE
from palimpsest.report.grafting.table import Table
from palimpsest.report.page import html_page, table
from palimpsest.report.removal.axes import LEAST_AXES, axes_of
from palimpsest.report.removal.curves import Curves, curves_section
from palimpsest.report.removal.grafts import grafts_section
from palimpsest.report.removal.plots import intervals, measured_by_metric, radar
from palimpsest.report.removal.tables import (
    attacks_table,
    axes_table,
    criteria_table,
    earlier_table,
    measurements_table,
    stores_table,
    verdict_badge,
)
from palimpsest.report.removal.targets import targets_of
from palimpsest.report.removal.words import COMPARED, VERDICTS, metric_named, state_word, verdict_word
from palimpsest.report.style import STYLE

_BODY = Template("""\
<main>
<h1>Removal request <code>$id</code></h1>
<p class="summary">$badge $sentence</p>
$facts
<h2 id="six">How far it has come</h2>
<p>The outer ring means: counts as what it is compared with. On memory and privacy the centre is the model before; on
utility and fluency, nothing left; under attack, all brought back.</p>
<div class="beside"><div>$radar</div>$axes</div>
<p><small>Memory and privacy: the share of the way from the value before to the edge of the target. Utility and fluency:
the share of the least that counts as the references’. Attacks: one less the largest share of what was removed that an
attack brings back, beyond what it brings back in the references. Scalability and sustainability are properties of a
series of requests, and not measured by one.</small></p>
<h2 id="criteria">Criteria</h2>
$criteria
<h2 id="measured">Before, after, references</h2>
<p class="keys"><span class="key before">before</span> <span class="key after">after</span> <span
class="key reference">references</span> <span class="key target">target</span> Lines are 95 % intervals.</p>
<div class="plots">$intervals</div>
<details><summary>All measurements in figures</summary>$measurements</details>
<h2 id="curves">Training</h2>
$curves
<h2 id="attacks">Attacks</h2>
<p>What is brought back by storing the weights coarsely, and by training on what was to be kept. A gain is in points of
its metric; lower is better, and what the references gain is no fault of the removal’s.</p>
$attacks
<h2 id="grafts">Gone, or hidden?</h2>
$grafts
<h2 id="earlier">Earlier requests</h2>
$earlier
<h2 id="stores">Stores</h2>
$stores
<h2 id="certificate">Certificate</h2>
$certificate
<h2 id="asked">What was asked</h2>
$asked
</main>
<footer>Removal from weights is approximate. This page and the certificate tell what was done and measured; they do not
prove that nothing is left.</footer>""")


def removal_page(
    request: pb.RemovalRequest, curves: Curves | None = None, grafts: Table | None = None
) -> str:
    """Write the page.

    Parameters
    ----------
    request
        One with a result.
    curves
        Of its training run; None: they are not kept.
    grafts
        A sweep of the models before and after; None: the page tells how to make one.

    Returns
    -------
    str
        HTML.
    """
    result, name = request.result, request.name.rpartition("/")[2]
    verdict, axes = verdict_word(result.verdict), axes_of(result)
    meaning = VERDICTS.get(verdict)
    drawn = radar(axes)
    targets = targets_of(result)
    shown = _BODY.substitute(
        id=escape(name),
        badge=verdict_badge(verdict),
        sentence=escape(meaning.sentence if meaning else ""),
        facts=_facts(request),
        radar=drawn
        or f"<p>Fewer than {LEAST_AXES} axes tell something, so that there is nothing to draw.</p>",
        axes=axes_table(axes),
        criteria=criteria_table(result),
        intervals="".join(
            f"<figure><figcaption><b>{escape(metric_named(metric).label)}</b><br><small>"
            f"{escape(metric_named(metric).says)} {_target(targets.get(metric))}</small></figcaption>"
            f"{intervals(metric, found, targets.get(metric))}</figure>"
            for metric, found in measured_by_metric(result.measurements).items()
        )
        or "<p>Nothing was measured.</p>",
        measurements=measurements_table(result),
        curves=curves_section(curves) if result.curve else "<p>Nothing was trained by steps.</p>",
        attacks=attacks_table(result),
        grafts=grafts_section(request, grafts),
        earlier=earlier_table(result),
        stores=stores_table(result),
        certificate=_certificate(request, name),
        asked=_asked(request),
    )
    return html_page(f"Removal request {name}: {verdict.replace('_', ' ')}", f"{STYLE}\n{MAP_STYLE}", shown)


def _target(target: object) -> str:
    text = getattr(target, "text", None)
    return f"Target: {text()}." if text else "No target: there is nothing to compare with."


def _facts(request: pb.RemovalRequest) -> str:
    result, plan = request.result, request.plan
    compared = COMPARED.get(result.reference, "nothing")
    if result.reference == "retrained":
        compared = f"{compared}: {', '.join(plan.references)}"
    ended = {"probe": "ended by the stopping rule", "diverged": "ended as a loss was no longer finite"}
    stopped = ended.get(result.stopped, "all that were planned")
    facts = {
        "State": f"{state_word(request).replace('_', ' ')}, {_when(request.end_time)}",
        "Compared with": compared,
        "Model": f"{plan.model} → {plan.new_model}"
        if result.new_model_fingerprint
        else f"{plan.model}, none made",
        "Algorithm": f"{plan.algorithm}, {result.steps} steps ({stopped})"
        if result.steps
        else plan.algorithm,
    }
    if result.trained_together:
        names = ", ".join(each.rpartition("/")[2] for each in result.trained_together)
        facts["Trained together"] = (
            f"{names}: one run on the forget sets of all; all else on this page is of this request"
        )
    return _list(facts)


def _asked(request: pb.RemovalRequest) -> str:
    plan, result = request.plan, request.result
    sets = (
        ("forget", result.forget), ("retain", result.retain), ("holdout", result.holdout), ("utility", result.utility)
    )  # fmt: skip
    rows = [
        (
            name,
            str(each.documents),
            str(each.questions),
            f"{each.tokens:,}",
            f"<code>{escape(each.artifact)}</code>",
        )
        for name, each in sets
        if each.artifact
    ]
    facts = {f"{name}": value for name, value in sorted(plan.parameters.items())}
    facts |= {
        "Stopping rule": plan.stopping.rule or "none",
        "Model before": result.model_fingerprint,
        "Model after": result.new_model_fingerprint or "none was made",
        "Manifest of the forget set": result.forget.manifest,
        "Copy of the forget set": "deleted"
        if result.forget_set_deleted
        else "kept; it is its owner’s to delete",
    }
    columns = ["set", ">documents", ">questions", ">tokens", "artefact"]
    return table("Data sets", columns, rows) + _list(facts)


def _certificate(request: pb.RemovalRequest, name: str) -> str:
    if not request.result.certificate:
        return "<p>No model was made, so there is no certificate.</p>"
    revoked = request.state == pb.REMOVAL_STATE_ROLLED_BACK
    warning = "<p><b>Revoked: the request was taken back.</b></p>" if revoked else ""
    commands = (
        f"palimpsest unlearn certificate {name} --folder proof\n"
        "palimpsest unlearn verify proof/certificate.json --log proof/log.jsonl \\\n"
        "  --key proof/key.public.json --revoked proof/revoked.json"
    )
    return (
        f"{warning}<p>SHA-256 of its statement: <code>{escape(request.result.certificate)}</code></p>"
        "<p>The first command saves it with what verifies it; the second asks no server.</p>"
        f'<pre tabindex="0" aria-label="Commands that verify the certificate">{escape(commands)}</pre>'
    )


def _list(facts: dict[str, str]) -> str:
    rows = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in facts.items()
    )
    return f"<dl>{rows}</dl>"


def _when(time: timestamp_pb2.Timestamp) -> str:
    return (
        f"{datetime.fromtimestamp(time.seconds, UTC):%Y-%m-%d %H:%M} UTC" if time.seconds else "no time known"
    )
