"""``palimpsest corpus continue``: what follows the last words of a text in a corpus."""

from typing import Annotated

import typer

from palimpsest.cli.output import printing as output
from palimpsest.cli.session import Session


def continue_(
    session: Session,
    name: Annotated[str, typer.Argument(metavar="CORPUS", help="corpora/ID, or the ID alone.")],
    text: Annotated[str, typer.Argument(help="The text to continue; end it with a whole word.")],
    limit: Annotated[
        int, typer.Option("-k", "--limit", min=1, max=64, help="Maximum number of continuations.")
    ] = 8,
    length: Annotated[int, typer.Option(min=1, max=256, help="Tokens of a continuation.")] = 32,
    shortest: Annotated[int, typer.Option(min=1, max=32, help="Minimum length of the match in tokens.")] = 3,
    longest: Annotated[int, typer.Option(min=1, max=32, help="Maximum length of the match in tokens.")] = 16,
) -> None:
    """Find what follows the last words of a text, verbatim, in the documents of a corpus."""
    corpus = name if name.startswith("corpora/") else f"corpora/{name}"
    with session.client() as client:
        found = client.datastore.continue_text(
            corpora=[corpus], text=text, limit=limit, length=length, shortest=shortest, longest=longest
        )
    if session.json:
        output.print_json(found)
        return
    for number, each in enumerate(found.continuations, 1):
        first = each.occurrences[0]
        others = f", and {each.count - 1} more" if each.count > 1 else ""
        typer.echo(
            f"[{number}] {first.document} v{first.version}, "
            f"bytes {first.match_byte_end}-{first.continuation_byte_end}{others}"
        )
        typer.echo("    " + " ".join(each.text.decode(errors="replace").split()))
    if found.continuations:
        typer.echo(f"Matched the last {found.matched_tokens} tokens of the text.")
    else:
        typer.echo("Nothing found.")
