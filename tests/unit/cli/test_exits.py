"""Every kind of error ends the command with the code the table promises."""

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from palimpsest import cli, errors
from palimpsest.api.decoding.v1 import decoding_pb2
from palimpsest.cli.output.exits import MEANINGS, Exit, exit_code
from palimpsest.cli.session import guarded
from palimpsest.client.requests import build
from palimpsest.client.transfer import replacing
from palimpsest.errors import Reason
from tests.disks import small_disk


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (errors.InvalidArgument, 2),
        (errors.NotFound, 3),
        (errors.Unavailable, 4),
        (errors.DeadlineExceeded, 4),
        (errors.FailedPrecondition, 5),
        (errors.AlreadyExists, 5),
        (errors.PermissionDenied, 5),
        (errors.Unauthenticated, 5),
        (errors.ResourceExhausted, 5),
        (errors.Cancelled, 6),
        (errors.Internal, 1),
        (errors.DataLoss, 1),
        (errors.PalimpsestError, 1),
    ],
)
def test_codes(kind, code):
    assert exit_code(kind(Reason.BUG, "")) == code


def test_every_code_is_explained_in_help():
    text = CliRunner().invoke(cli.app, ["--help"]).output
    assert set(MEANINGS) == set(Exit)
    for code, meaning in MEANINGS.items():
        assert f"{int(code)}  {meaning}" in text


@pytest.mark.parametrize("error", [KeyboardInterrupt(), FileNotFoundError(2, "No such file", "x")])
def test_other_ends(error, capsys):
    def fail():
        raise error

    with pytest.raises(typer.Exit) as ended:
        guarded(fail)()
    assert ended.value.exit_code == (130 if isinstance(error, KeyboardInterrupt) else 3)
    assert capsys.readouterr().out == ""


def test_a_full_disk_here_is_a_message_and_leaves_nothing(tmp_path: Path, capsys):
    def save():
        with replacing(disk.root / "file") as file:
            file.write(b"x" * 10_000)

    with small_disk(tmp_path / "disk", 1) as disk:
        disk.fill()
        with pytest.raises(typer.Exit) as ended:
            guarded(save)()
        assert ended.value.exit_code == Exit.REFUSED
        assert "Free space" in capsys.readouterr().err
        assert disk.content() == set()
        disk.empty()
        guarded(save)()
        assert (disk.root / "file").stat().st_size == 10_000


def test_errors_as_json(capsys):
    def fail():
        raise errors.InvalidArgument.field(Reason.INVALID_REQUEST, "n", "is too large", largest=4)

    with pytest.raises(typer.Exit) as ended:
        guarded(fail, as_json=True)()
    assert ended.value.exit_code == 2
    assert '"violations": [{"field": "n", "description": "is too large"}]' in capsys.readouterr().err


def test_bugs_are_not_dressed_up():
    def fail():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        guarded(fail)()


def every_command(group, path=()):
    import typer.main

    command = typer.main.get_command(group)
    for name, sub in getattr(command, "commands", {}).items():
        if getattr(sub, "commands", None):
            yield from ((*path, name, inner) for inner in sub.commands)
        else:
            yield (*path, name)


@pytest.mark.parametrize("words", list(every_command(cli.app)), ids=" ".join)
def test_every_command_has_help_with_exit_codes(words):
    result = CliRunner().invoke(cli.app, [*words, "--help"])
    assert result.exit_code == 0
    assert "Exit codes:" in result.output


@pytest.mark.parametrize(
    "words",
    [["jobs", "list"], ["models", "show", "m"], ["artifacts", "show", "sha256:" + "0" * 64], ["health"]],
)
def test_nobody_answers(words):
    result = CliRunner().invoke(cli.app, [*words, "--server", "127.0.0.1:1"])
    assert result.exit_code == 4
    assert "palimpsest up" in result.stderr
    assert result.stdout == ""


def test_a_wrong_option_is_a_usage_error():
    assert CliRunner().invoke(cli.app, ["jobs", "list", "--limit", "0"]).exit_code == 2


@pytest.mark.parametrize(
    "fields", [{"prompt": "\udcff"}, {"n": 1 << 70}, {"sampling": {"temperature": 10**400}}], ids=str
)
def test_values_that_no_field_holds_are_the_command_lines_fault(fields, capsys):
    with pytest.raises(typer.Exit) as ended:
        guarded(lambda: build(decoding_pb2.GenerateRequest, {"model": "m", **fields}, "generate()"))()
    assert ended.value.exit_code == 2
    assert capsys.readouterr().err.startswith("Error: generate(): ")


def test_a_file_that_is_not_text_is_the_command_lines_fault(capsys):
    with pytest.raises(typer.Exit) as ended:
        guarded(lambda: b"\xff".decode())()
    assert ended.value.exit_code == 2
    assert "utf-8" in capsys.readouterr().err
