"""``palimpsest chat``: a conversation with a model, in the terminal."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from palimpsest.cli.output import printing as output
from palimpsest.cli.output.waiting import announced
from palimpsest.cli.sampling import (
    MaxTokens,
    MinP,
    Model,
    Seed,
    Temperature,
    TopK,
    TopP,
    chosen_model,
    sampling,
)
from palimpsest.cli.session import Session, command
from palimpsest.client import Client
from palimpsest.errors import PalimpsestError

HELP = """\
/reset         forget the conversation
/system TEXT   set the system message, and forget the conversation; without TEXT, remove it
/save FILE     write the conversation, as a line that `palimpsest batch` takes
/help          this list
/quit          end; so does Ctrl-D. Ctrl-C ends an answer that is being written."""

Message = dict[str, str]


class Conversation:
    """What has been said, and the system message before it."""

    def __init__(self, system: str = "") -> None:
        self.system = system
        self.turns: list[Message] = []

    @property
    def messages(self) -> list[Message]:
        """All of it, as a chat model takes it."""
        return [{"role": "system", "content": self.system}, *self.turns] if self.system else self.turns

    def reset(self, system: str | None = None) -> None:
        """Forget what was said; with ``system``, under another system message."""
        self.turns = []
        if system is not None:
            self.system = system

    def save(self, file: Path) -> None:
        """Write it as one line of JSON."""
        file.write_text(json.dumps({"messages": self.messages}, ensure_ascii=False) + "\n", encoding="utf-8")


def order(line: str, conversation: Conversation) -> str | None:
    """Obey a line that begins with a slash; return what to say, None to end.

    Raises
    ------
    OSError
        A file cannot be written.
    """
    verb, _, rest = line.partition(" ")
    rest = rest.strip()
    if verb in ("/quit", "/exit"):
        return None
    if verb == "/reset":
        conversation.reset()
        return "Forgotten."
    if verb == "/system":
        conversation.reset(rest)
        return "The system message is set." if rest else "There is no system message."
    if verb == "/save":
        if not rest:
            return "Name a file: /save FILE"
        conversation.save(Path(rest))
        return f"Wrote {rest}."
    return HELP if verb == "/help" else f"There is no {verb}.\n{HELP}"


def chat(
    session: Session,
    model: Model = "",
    system: Annotated[str, typer.Option(help="System message.")] = "",
    max_tokens: MaxTokens = 0,
    temperature: Temperature = 0.0,
    top_k: TopK = 0,
    top_p: TopP = None,
    min_p: MinP = 0.0,
    seed: Seed = None,
) -> None:
    """Talk to a chat model. It sees the whole conversation each time; /help lists what else a line may say.

    Where standard input is no terminal, each line is one message. With --json, each answer is a message in a line.
    """
    conversation = Conversation(system)
    with session.client() as client:
        name = chosen_model(client, model)
        asked = sampling(temperature, top_k, top_p, min_p, seed)

        def answer() -> str:
            return _answer(session, client, name, conversation, {"sampling": asked, "max_tokens": max_tokens})

        if sys.stdin.isatty():
            import readline  # noqa: F401  line editing and history for input()

            output.note(f"Talking to {name}. /help lists commands, Ctrl-D ends.")
        while (line := _line()) is not None:
            if line.startswith("/"):
                said = _obey(line, conversation)
                if said is None:
                    return
                output.note(said)
            elif line.strip():
                _turn(conversation, line, answer)


def _line() -> str | None:
    """The next line; None at the end. Ctrl-C drops what was typed so far."""
    while True:
        try:
            return input("> " if sys.stdin.isatty() else "")
        except EOFError:
            return None
        except KeyboardInterrupt:
            output.note("")


def _obey(line: str, conversation: Conversation) -> str | None:
    try:
        return order(line, conversation)
    except OSError as error:
        return f"{error.strerror}: {error.filename}"


def _turn(conversation: Conversation, line: str, answer: Callable[[], str]) -> None:
    """One message and its answer; where that fails, the conversation is as it was."""
    conversation.turns.append({"role": "user", "content": line})
    try:
        text = answer()
    except PalimpsestError as error:
        conversation.turns.pop()
        output.complain(error, as_json=False)
        if not sys.stdin.isatty():
            raise
    else:
        conversation.turns.append({"role": "assistant", "content": text})


def _answer(
    session: Session, client: Client, model: str, conversation: Conversation, asked: dict[str, object]
) -> str:
    """Write an answer as it comes; return what was written, all or until Ctrl-C."""
    text = ""
    with client.decoding.generate(model=model, messages=conversation.messages, **asked) as events:  # type: ignore[arg-type]
        try:
            for event in announced(events):
                if event.HasField("delta"):
                    text += event.delta.text
                    if not session.json:
                        sys.stdout.write(event.delta.text)
                        sys.stdout.flush()
        except KeyboardInterrupt:
            output.note(" (interrupted)")
    if session.json:
        output.print_json({"role": "assistant", "content": text})
    else:
        sys.stdout.write("\n")
        sys.stdout.flush()
    return text


def add(app: typer.Typer) -> None:
    """Register the command."""
    command(app)(chat)
