"""The options of quoting corpora, and how quotes and their sources are shown."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer

from palimpsest.api.decoding.v1 import decoding_pb2
from palimpsest.cli import output
from palimpsest.client.quotes import CitedText
from palimpsest.report.quotes import quotes_page

MODES = ("nest", "nest-strict", "lossless", "knn-lm", "lm")

Corpus = Annotated[
    list[str] | None, typer.Option(metavar="NAME", help="Corpus that may be quoted; repeatable.")
]
NestMode = Annotated[str, typer.Option(help=f"How it is quoted: {', '.join(MODES)}. Default: nest.")]
Passages = Annotated[int, typer.Option(min=0, max=256, help="Passages to retrieve; 0 for 8.")]
HtmlFile = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Also write a page with quotes and sources.")
]


def corpus_name(name: str) -> str:
    """Return the full name of a corpus."""
    return name if name.startswith("corpora/") else f"corpora/{name}"


def nest_settings(corpora: Sequence[str], mode: str, passages: int) -> decoding_pb2.NestSettings:
    """Return the message for the options.

    Raises
    ------
    typer.BadParameter
        There is no such mode.
    """
    if mode and mode not in MODES:
        raise typer.BadParameter(f"--mode is one of {', '.join(MODES)}.")
    kind = f"MODE_{mode.upper().replace('-', '_')}" if mode else "MODE_UNSPECIFIED"
    return decoding_pb2.NestSettings(
        corpora=[corpus_name(name) for name in corpora],
        mode=decoding_pb2.NestSettings.Mode.Value(kind),
        passages=passages,
    )


class Kept:
    """A stream's events as they pass, kept as cited text: ``for event in Kept(events)``."""

    def __init__(self, events: Iterable[decoding_pb2.GenerateResponse]) -> None:
        self._events, self.cited = events, CitedText()

    def __iter__(self) -> Iterator[decoding_pb2.GenerateResponse]:
        for event in self._events:
            self.cited.take(event)
            yield event


def marker(cited: CitedText, span: decoding_pb2.QuotedSpan) -> str:
    """What is written after a quote: the number of its source."""
    quoted = span.kind == decoding_pb2.QuotedSpan.KIND_SPAN and span.sources
    return f"[{cited.quote(span).sources[0].number}]" if quoted else ""


def print_sources(cited: CitedText) -> None:
    """List the sources of a finished text."""
    lines = cited.list_sources()
    if lines:
        output.console().print("", *lines, sep="\n", markup=False)
    done = cited.finished
    if done is not None and done.HasField("nest"):
        told = done.nest
        passes = told.lm_forwards / max(1, done.generated_tokens)
        output.note(
            f"{told.span_token_ratio:.0%} of {done.generated_tokens} tokens quoted from {told.documents} documents, "
            f"{passes:.2f} passes of the model a token."
        )
        if told.degraded:
            output.note("The datastore was lost on the way: the rest is the model's alone.")


def write_page(file: Path, cited: CitedText, prompt: str, model: str) -> None:
    """Write the page with highlighted quotes."""
    file.write_text(quotes_page(cited, prompt, model), encoding="utf-8")
    output.note(f"Wrote {file}.")
