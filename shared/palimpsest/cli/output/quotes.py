"""The options of quoting corpora, and how quotes and their sources are shown."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer

from palimpsest.api.decoding.v1 import decoding_pb2
from palimpsest.cli.names import corpus_name
from palimpsest.cli.output import printing as output
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
        mode=kind,
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


class Inline:
    """Text as it streams, with the number of its source after every quote.

    A growing quote arrives again each time, so its number is held back until the next event shows that it has ended.
    """

    def __init__(self, cited: CitedText) -> None:
        self._cited, self._open, self._number, self._text = cited, -1, "", ""

    def take(self, event: decoding_pb2.GenerateResponse) -> str:
        """Return what can be written now."""
        if event.HasField("span") and event.span.kind == decoding_pb2.QuotedSpan.KIND_SPAN:
            return self._span(event.span)
        if event.HasField("delta"):
            if self._open < 0:
                return event.delta.text
            if not self._text:
                self._text = event.delta.text
                return ""
            return self._end() + event.delta.text
        return self._end() if event.HasField("finished") else ""

    def _span(self, span: decoding_pb2.QuotedSpan) -> str:
        grows = span.span_id == self._open
        number = f"[{self._cited.quote(span).sources[0].number}]"
        # The text held back belongs to this span, which continues the last one or begins another.
        before, held = ("" if grows else self._number), self._text
        self._open, self._number, self._text = span.span_id, number, ""
        return before + held

    def _end(self) -> str:
        written = self._number + self._text
        self._open, self._number, self._text = -1, "", ""
        return written


def print_sources(cited: CitedText) -> None:
    """List the sources of a finished text."""
    lines = cited.list_sources()
    if lines:
        output.console().print("", *lines, sep="\n", markup=False)
    done = cited.finished
    if done is not None and done.HasField("nest"):
        statistics = done.nest
        passes = statistics.lm_forwards / max(1, done.generated_tokens)
        output.note(
            f"{statistics.span_token_ratio:.0%} of {done.generated_tokens} tokens quoted "
            f"from {statistics.documents} documents, "
            f"{passes:.2f} passes of the model a token."
        )
        if statistics.degraded:
            output.note("The datastore was lost on the way: the rest is the model's alone.")


def write_page(file: Path, cited: CitedText, prompt: str, model: str) -> None:
    """Write the page with highlighted quotes."""
    file.write_text(quotes_page(cited, prompt, model), encoding="utf-8")
    output.note(f"Wrote {file}.")
