"""``palimpsest graft report`` against the real stack: a sweep by its job, its digest or its file is the same."""

import json

import pytest

from palimpsest import Client
from palimpsest.cli.output.exits import Exit
from palimpsest.report.grafting.views import SweepView
from tests.tiny import write_tiny_model

CASES = [
    {"prompt": "the quick brown fox and the dog", "target": " jumps"},
    {"prompt": "the dog and the quick brown fox", "target": " sleeps"},
]


@pytest.fixture(scope="module")
def swept(stack, cli_model, tmp_path_factory):
    """The name of a job and its result."""
    folder = write_tiny_model(tmp_path_factory.mktemp("other"), seed=6)
    with Client(stack.target, token=stack.token) as client:
        client.models.register_model(model_id="cli-other", source=str(folder)).result(timeout=60)
        job = client.grafting.sweep_grafts(pair={"base": cli_model, "donor": "cli-other"}, cases=CASES)
        return job.name, job.result(timeout=120)


def test_one_sweep_has_one_set_of_numbers_wherever_it_is_read_from(palimpsest, swept, tmp_path):
    name, result = swept
    page, svg, png = (tmp_path / f"map.{kind}" for kind in ("html", "svg", "png"))
    made = palimpsest(
        "graft", "report", name, "--html", page, "--svg", svg, "--png", png, "--case", 2, "--json"
    )
    assert made.code == 0, made.err
    table = made.json
    assert len(table["cases"]) == 2
    assert f"{result.row_layers:,} of {result.naive_row_layers:,}" in page.read_text()
    assert png.read_bytes().startswith(b"\x89PNG")
    assert "sleeps" in svg.read_text()
    assert palimpsest("graft", "report", result.table.digest, "--json").json == table
    file = tmp_path / "table.json"
    file.write_text(json.dumps(table))
    shown = palimpsest("graft", "report", file)
    assert shown.code == 0, shown.err
    for word in (
        result.table.digest.partition(":")[0],
        "Recall, at the last token",
        "base alone",
        "over all cases",
    ):
        assert word in shown.out
    entity = palimpsest("graft", "report", file, "--entity", "brown fox", "--html", page)
    assert entity.code == 0, entity.err


def test_estimates_and_values_of_segments_are_shown_and_drawn(stack, palimpsest, swept, cli_model, tmp_path):
    pair, drawn = {"base": cli_model, "donor": "cli-other"}, tmp_path / "drawn.svg"
    checks = {"verify_top": 3, "verify_random": 3, "seed": 1}
    named = {"positions": [{"name": n, "positions": {"spans": [{"text": n}]}} for n in ("fox", "dog")]}
    with Client(stack.target, token=stack.token) as client:
        ask = {"pair": pair, "cases": CASES}
        previewed = client.grafting.sweep_grafts(**ask, mode="SWEEP_MODE_PREVIEW", preview=checks).result(
            timeout=120
        )
        valued = client.grafting.sweep_grafts(**ask, axes={**named, "window": 2, "subsets": True}).result(
            timeout=120
        )
        view = SweepView.of(previewed, client.artifacts.read_bytes)
    assert view.table.cases[0].partly_exact
    assert "Estimates beside grafts" in view._repr_html_()
    digests = {"estimates": previewed.table.digest, "segments": valued.table.digest}
    for picture, digest in digests.items():
        page = tmp_path / f"{picture}.html"
        made = palimpsest("graft", "report", digest, "--picture", picture, "--svg", drawn, "--html", page)
        assert made.code == 0, made.err
        assert "cli-other" in drawn.read_text()
        drawn.unlink()
        other = next(each for name, each in digests.items() if name != picture)
        refused = palimpsest("graft", "report", other, "--picture", picture, "--svg", drawn)
        assert refused.code == Exit.USAGE, refused.err
        assert not drawn.exists()
    assert "Shapley value" in (tmp_path / "segments.html").read_text()
    assert "Pearson correlation" in palimpsest("graft", "report", digests["estimates"]).out
    assert (
        palimpsest("graft", "report", digests["estimates"], "--reading", "estimate", "--svg", drawn).code == 0
    )


def test_what_cannot_be_reported_is_said_with_an_exit_code(palimpsest, swept, tmp_path):
    name, _ = swept
    page = tmp_path / "page.html"
    for words in (("--reading", "loss"), ("--case", 3), ("--entity", "cat")):
        refused = palimpsest("graft", "report", name, *words, "--html", page)
        assert refused.code == Exit.USAGE, refused.err
    assert not page.exists()
    assert palimpsest("graft", "report", "operations/nothing").code == Exit.NOT_FOUND
    (tmp_path / "no.json").write_text("{}")
    assert palimpsest("graft", "report", tmp_path / "no.json").code == Exit.USAGE
