"""What a line of a conversation may say beside a message."""

import json
from pathlib import Path

import pytest

from palimpsest.cli.chat import HELP, Conversation, order


@pytest.fixture
def talk() -> Conversation:
    talk = Conversation("Be brief.")
    talk.turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hö"}]
    return talk


def test_resetting_keeps_the_system_message(talk: Conversation):
    assert order("/reset", talk) == "Forgotten."
    assert talk.messages == [{"role": "system", "content": "Be brief."}]


def test_another_system_message_begins_anew(talk: Conversation):
    order("/system Speak Latin.", talk)
    assert talk.messages == [{"role": "system", "content": "Speak Latin."}]
    order("/system", talk)
    assert talk.messages == []


def test_a_conversation_is_saved_as_a_line_of_a_batch(talk: Conversation, tmp_path: Path):
    file = tmp_path / "talk.jsonl"
    assert order(f"/save {file}", talk) == f"Wrote {file}."
    (line,) = file.read_text(encoding="utf-8").splitlines()
    assert json.loads(line) == {"messages": talk.messages}
    assert "Name a file" in str(order("/save", talk))
    with pytest.raises(FileNotFoundError):
        order(f"/save {tmp_path / 'no' / 'folder'}", talk)


@pytest.mark.parametrize(
    ("line", "said"), [("/help", HELP), ("/what", f"There is no /what.\n{HELP}"), ("/quit", None)]
)
def test_other_lines(talk: Conversation, line: str, said: str | None):
    assert order(line, talk) == said
    assert len(talk.turns) == 2
