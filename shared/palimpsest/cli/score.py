"""``palimpsest score``: how probable a text is to a model."""

from typing import Annotated

import typer

from palimpsest.cli.input.reading import STANDARD_INPUT, typed_text
from palimpsest.cli.output import printing as output
from palimpsest.cli.output.waiting import Waiting
from palimpsest.cli.sampling import Model, chosen_model
from palimpsest.cli.session import Session, command


def score(
    session: Session,
    text: Annotated[
        str, typer.Argument(help="The text; - or nothing reads standard input.")
    ] = STANDARD_INPUT,
    model: Model = "",
    tokens: Annotated[bool, typer.Option("--tokens", help="Show every token.")] = False,
    top: Annotated[
        int, typer.Option(min=0, max=64, help="With --tokens: this many alternatives for each.")
    ] = 0,
    skip_tokens: Annotated[int, typer.Option(min=0, help="Score only what follows this many tokens.")] = 0,
) -> None:
    """Score a text in one pass: its log-probability in nats, and its perplexity. The first token is not predicted."""
    if text == STANDARD_INPUT:
        text = typed_text("text")
    with session.client() as client:
        name = chosen_model(client, model)
        with Waiting():
            found = client.decoding.score(model=name, text=text, top=top, skip_tokens=skip_tokens)
    if session.json:
        output.print_json(found)
        return
    if tokens:
        rows = [
            (
                _shown(token.bytes),
                f"{token.logprob:.4f}",
                "  ".join(f"{_shown(other.bytes)} {other.logprob:.4f}" for other in token.top),
            )
            for token in found.tokens
        ]
        output.print_table(["token", ">log-probability", "alternatives"], rows)
    count = len(found.tokens)
    output.print_fields(
        {
            "tokens": count,
            "log-probability": f"{found.total_logprob:.4f} nats, {found.total_logprob / max(1, count):.4f} a token",
            "perplexity": f"{found.perplexity:.4f}",
        }
    )


def _shown(token: bytes) -> str:
    return repr(token.decode(errors="backslashreplace"))


def add(app: typer.Typer) -> None:
    """Register the command."""
    command(app)(score)
