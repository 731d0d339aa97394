"""Gone or hidden: what grafts of the model before say of a removal, and how its report says to make them."""

import shlex

import pytest

from palimpsest.api.unlearning.v1 import unlearning_pb2 as pb
from palimpsest.cli.unlearn import grafts
from palimpsest.errors import InvalidArgument
from palimpsest.report.grafting.table import Table, read_table
from palimpsest.report.removal.grafts import finding_of, graft_commands
from palimpsest.report.removal.page import removal_page
from tests.unit.report import removals, sweeps

REQUEST = removals.request()


def swept(most: float, *, turned: bool = False, **base: object) -> Table:
    """A sweep whose best single place leads so much of the way."""
    raw = sweeps.table(rows=("light", "last", "entity+last"), window=10, cases=1)
    models = [REQUEST.result.new_model_fingerprint, REQUEST.result.model_fingerprint]
    raw["base"]["fingerprint"], raw["donor"]["fingerprint"] = reversed(models) if turned else models
    (case,) = raw["cases"]
    case["base"] |= {"logprob": -9.0, "rank": 700, **base}
    case["donor"] |= {"logprob": -0.1, "rank": 1}
    for at, cell in enumerate(case["cells"]):
        cell["reading"]["recovery"] = (
            0.99 if cell["position"] == "entity+last" else most if at == 4 else most - 0.1
        )
    return read_table(sweeps.encoded(raw))


@pytest.mark.parametrize(
    ("table", "word", "why"),
    [
        (swept(0.8), "hidden", "at light, layers 20–29 (layer) alone lead 0.8 of the way back"),
        (swept(0.5), "hidden", "lead 0.5"),
        (swept(0.4), "not found", "the most is 0.4 of the way"),
        (swept(0.8, rank=1), "not forgotten", "still puts"),
        (swept(0.8, logprob=-0.1), "nothing to tell", "no more probable"),
        (swept(0.8, turned=True), "nothing to tell", "the other way round"),
    ],
)
def test_what_is_found(table, word, why, tmp_path, capsys):
    found = finding_of(REQUEST, table, table.cases[0])
    assert found.word == word
    assert why in found.sentence
    assert f"<b>{word}</b>: " in removal_page(REQUEST, None, table)
    grafts.show(REQUEST, table)
    assert word in capsys.readouterr().out


def test_cells_without_a_recovery_tell_nothing():
    raw = sweeps.table(cases=1, layers=2)
    raw["base"]["fingerprint"] = REQUEST.result.new_model_fingerprint
    raw["cases"][0]["base"] |= {"logprob": -3.0, "rank": 2}
    raw["cases"][0]["donor"]["logprob"] = -2.0
    for cell in raw["cases"][0]["cells"]:
        del cell["reading"]["recovery"]
    table = read_table(sweeps.encoded(raw))
    assert finding_of(REQUEST, table, table.cases[0]).word == "nothing to tell"


def test_a_report_tells_how_to_ask_with_its_own_two_models(capsys):
    first, second = map(shlex.split, graft_commands(REQUEST).splitlines())
    assert first[:5] == ["palimpsest", "graft", "sweep", "smollm2-clean", "smollm2-135m"]
    assert second[:4] == ["palimpsest", "unlearn", "report", "vault"]
    assert second[-2:] == ["--graft", first[-1]]
    assert "palimpsest graft sweep smollm2-clean smollm2-135m" in removal_page(REQUEST)
    grafts.show(REQUEST, None)
    assert graft_commands(REQUEST) in capsys.readouterr().err


def test_without_two_models_there_is_no_command():
    request = removals.request()
    request.state = pb.REMOVAL_STATE_ROLLED_BACK
    assert graft_commands(request) == ""
    request = removals.request()
    request.result.new_model_fingerprint = ""
    assert graft_commands(request) == ""
    assert "There are no two models to graft." in removal_page(request)


def test_a_sweep_of_other_models_is_refused(tmp_path):
    file = tmp_path / "table.json"
    file.write_bytes(sweeps.encoded(sweeps.table(cases=1, layers=2)))
    with pytest.raises(InvalidArgument, match="these are not the models before and after"):
        grafts.read(file, REQUEST)
    for turned in (False, True):
        file.write_bytes(sweeps.encoded(dict(swept(0.8, turned=turned).raw)))
        assert grafts.read(file, REQUEST).cells == 18
