"""The schema of a certificate's statement: what it takes, and all that it refuses."""

import json

import pytest

from palimpsest.certificates import Statement
from palimpsest.certificates.canonical import canonical, digest
from palimpsest.errors import InvalidArgument, Reason
from tests.unit.certificates.conftest import statement_fields


def places(value, path=()):
    """Every object and value of plain data, by path."""
    yield path, value
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from places(inner, (*path, key))


def replaced(fields, path, new):
    fields = json.loads(json.dumps(fields))
    inner = fields
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = new
    return fields


STATEMENT = statement_fields(digest(b"issuer"))
MISSED = {"name": "C1", "value": "16", "comparison": "<=", "bound": "15", "verdict": "failed"}
OPEN = ("method", "configuration"), ("manifest", "counts"), ("run", "seeds")
"""Objects whose keys are free."""


def refused(fields) -> bool:
    try:
        Statement.of(fields)
    except InvalidArgument as error:
        return error.reason == Reason.RECORD_INVALID
    return False


def test_a_statement_comes_back_from_its_bytes():
    statement = Statement.of(STATEMENT)
    assert statement.model_dump() == STATEMENT
    assert statement.to_bytes() == canonical(STATEMENT) + b"\n"
    assert Statement.parse(statement.to_bytes()) == statement


def test_floats_are_refused_everywhere():
    for path, value in places(STATEMENT):
        if path and not isinstance(value, dict | list):
            assert refused(replaced(STATEMENT, path, 1.0)), path
            assert refused(replaced(STATEMENT, path, [1])), path


def test_unknown_and_missing_keys_are_refused_everywhere():
    objects = [path for path, value in places(STATEMENT) if isinstance(value, dict) and path[:2] not in OPEN]
    assert len(objects) > 10
    for path in objects:
        assert refused(replaced(STATEMENT, (*path, "surplus"), 1)), path
        inner = STATEMENT
        for key in path:
            inner = inner[key]
        for key in inner:
            fields = json.loads(json.dumps(STATEMENT))
            at = fields
            for step in path:
                at = at[step]
            del at[key]
            assert refused(fields), (*path, key)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("request",), "a request with spaces"),
        (("metrics", 0, "value"), "1e3"),
        (("metrics", 0, "value"), "1.50"),
        (("metrics", 0, "value"), "-0"),
        (("metrics", 0, "value"), "NaN"),
        (("metrics", 0, "value"), "1\n"),
        (("metrics", 0, "n"), -1),
        (("metrics", 0, "n"), True),
        (("metrics", 0, "low"), None),
        (("models", "after"), "sha256:" + "A" * 64),
        (("models", "after"), "sha256:" + "a" * 64 + "\n"),
        (("method", "configuration", "lr"), "0.1"),
        (("method", "configuration_digest"), digest(b"other")),
        (("attacks", "precisions"), ["float32"]),
        (("attacks", "results", 0, "verdict"), "failed"),
        (("attacks", "results", 0, "value"), "9.5"),
        (("attacks", "precisions"), ["float32", "int8", "int4"]),
        (("attacks", "coverage"), "All precisions are covered."),
        (("limitations",), "This is a proof."),
        (("reference",), "trust me"),
        (("outcome",), "perfect"),
        (("stores", 0, "absent"), False),
        (("criteria", 0, "verdict"), "failed"),
        (("criteria", 0), MISSED),
        (("attacks", "results", 1, "verdict"), "not_measured"),
        (("earlier_requests", 0, "verdict"), "failed"),
        (("criteria",), []),
        (("expires",), "2026-03-01T12:00:00Z"),
        (("issued",), "2026-02-30T12:00:00Z"),
        (("issued",), "2026-03-01 12:00:00"),
        (("version",), 2),
        (("version",), "1"),
    ],
    ids=str,
)
def test_statements_that_are_refused(path, value):
    assert refused(replaced(STATEMENT, path, value))


def test_a_failed_criterion_is_no_reason_to_issue_nothing():
    fields = replaced(STATEMENT, ("criteria", 0), MISSED)
    assert Statement.of(fields | {"outcome": "partial"}).outcome == "partial"


def test_a_precision_at_which_nothing_was_measured_is_not_spoken_for():
    """The attack is named all the same, and what it left open is not called a success."""
    fields = replaced(STATEMENT, ("attacks", "results", 1, "verdict"), "not_measured")
    fields = replaced(fields, ("attacks", "results", 1, "value"), None)
    assert refused(fields | {"outcome": "partial"})  # it lists int8
    fields = replaced(fields, ("attacks", "precisions"), ["float32"])
    found = Statement.of(fields | {"outcome": "partial"})
    assert found.attacks.precisions == ["float32"]
    assert [each.verdict for each in found.attacks.results] == ["passed", "not_measured"]
    assert refused(fields)  # as succeeded


def test_the_message_names_fields_and_not_values():
    with pytest.raises(InvalidArgument) as found:
        Statement.of(replaced(STATEMENT, ("metrics", 0, "name"), "the text to forget"))
    assert "metrics.0.name" in found.value.message
    assert "forget" not in found.value.message
