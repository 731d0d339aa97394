"""``palimpsest finetune``: what is refused before a stack is started."""

import pytest
from typer.testing import CliRunner

from palimpsest import cli
from palimpsest.cli.output.exits import Exit


@pytest.fixture
def finetune(tmp_path, monkeypatch):
    monkeypatch.setenv("PALIMPSEST_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("PALIMPSEST_SERVER", "")
    (tmp_path / "facts.jsonl").write_text('{"text": "x"}\n')
    (tmp_path / "facts.json").write_text('{"text": "x"}\n')

    def run(*words: str):
        done = CliRunner().invoke(cli.app, ["finetune", *words])
        assert not (tmp_path / "state").exists()
        return done

    return run


def test_a_file_that_is_not_there(finetune, tmp_path):
    done = finetune("--train", str(tmp_path / "none.jsonl"), "--as", "m")
    assert done.exit_code == Exit.NOT_FOUND
    assert "none.jsonl" in done.stderr
    there = str(tmp_path / "facts.jsonl")
    done = finetune("--train", there, "--validation", str(tmp_path / "none.jsonl"), "--as", "m")
    assert done.exit_code == Exit.NOT_FOUND


def test_a_json_file_is_not_silently_read_as_plain_text(finetune, tmp_path):
    done = finetune("--train", str(tmp_path / "facts.json"), "--as", "m")
    assert done.exit_code == Exit.USAGE
    assert ".jsonl" in done.stderr


def test_neither_and_both_of_a_name_and_a_file_are_told_apart(finetune, tmp_path):
    there = str(tmp_path / "facts.jsonl")
    neither = finetune("--train", there)
    assert neither.exit_code == Exit.USAGE
    assert "--as my-model" in neither.stderr
    both = finetune("--train", there, "--as", "m", "--lora", "2", "--adapter", str(tmp_path / "a.tar"))
    assert both.exit_code == Exit.USAGE
    assert "leave --as out" in both.stderr
