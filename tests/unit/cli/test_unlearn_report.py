"""The tables of ``palimpsest unlearn report``."""

from palimpsest.api.unlearning.v1 import unlearning_pb2 as pb
from palimpsest.cli.unlearn import reports


def row(attack, precision="float32", **fields):
    return pb.AttackResult(
        attack=attack, metric="verbmem", precision=precision, before=20, after=60, **fields
    )


def test_attacks_that_were_not_measured_are_named_and_their_precisions_are_not_spoken_for(capsys):
    broken = pb.NotMeasured(model="after", reason="METRIC_NOT_FINITE", message="Weights are not finite.")
    result = pb.Result(
        attacks=[
            row("relearn/retain", failed=True),
            row("int4/32", "int4/32", not_measured=[pb.NotMeasured(model="never", message="It diverged.")]),
            row("float16", "float16", not_measured=[broken]),
        ]
    )
    reports.show_attacks(result.attacks)
    printed = capsys.readouterr()
    lines = {line.split()[1]: line for line in printed.out.splitlines() if "verbmem" in line}
    assert "yes" in lines["relearn/retain"]
    assert "not measured" in lines["float16"]
    assert "60" not in lines["float16"]
    assert "60" in lines["int4/32"]
    assert "Weights are not finite." in printed.out
    assert "It diverged." in printed.out
    note = " ".join(printed.err.split())
    assert "these precisions of the weights: float32, int4/32. Nothing is said of any other." in note


def test_a_result_without_attacks_speaks_of_no_precision(capsys):
    reports.show_attacks([])
    assert "precision" not in capsys.readouterr().err
