"""The ``palimpsest`` command."""

from importlib.metadata import version
from typing import Annotated

import typer

from palimpsest.cli import (
    artifacts,
    batch,
    chat,
    config,
    doctor,
    drafts,
    finetune,
    generate,
    graft,
    jobs,
    models,
    ngrams,
    score,
    stack,
)
from palimpsest.cli.corpus import commands as corpus
from palimpsest.cli.demo import command as demo
from palimpsest.cli.kv import commands as kv
from palimpsest.cli.output.exits import table
from palimpsest.cli.unlearn import commands as unlearn

app = typer.Typer(
    name="palimpsest",
    help="Serve open-weight language models and manage their caches, corpora and artefacts.",
    epilog=table(),
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(version("palimpsest-lm"))
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None: ...


for _module in (stack, generate, chat, score, drafts, batch, finetune, doctor, demo):
    _module.add(app)
for _name, _group in (
    ("jobs", jobs.app),
    ("models", models.app),
    ("kv", kv.app),
    ("corpus", corpus.app),
    ("ngrams", ngrams.app),
    ("unlearn", unlearn.app),
    ("graft", graft.app),
    ("artifacts", artifacts.app),
    ("config", config.app),
):
    app.add_typer(_group, name=_name)


def main() -> None:
    """Run the command."""
    app()
