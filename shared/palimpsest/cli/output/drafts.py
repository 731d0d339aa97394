"""Drafts on a terminal: while they change, and ranked, with shared prefixes dimmed."""

from collections.abc import Sequence

from rich.live import Live
from rich.table import Table
from rich.text import Text

from palimpsest.api.decoding.v1 import decoding_pb2 as pb
from palimpsest.cli.output import printing as output
from palimpsest.cli.output.quantities import show_seconds
from palimpsest.cli.output.waiting import Waiting
from palimpsest.client import Draft, Drafting
from palimpsest.client.drafts import shared_length

Place = tuple[str, str, int]


def watch(drafting: Drafting, live: bool = True) -> None:
    """Read drafts to their end, showing them on standard error if that is a terminal."""
    console = output.console(stderr=True)
    if not live or not console.is_terminal:
        with Waiting() as waiting:
            for _ in drafting:
                waiting.over()
        return
    with Live(
        console=console, refresh_per_second=12, transient=True, get_renderable=lambda: rows(drafting.texts)
    ):
        for _ in drafting:
            pass


def rows(texts: Sequence[str]) -> Table:
    """One row for each draft."""
    table = Table.grid(padding=(0, 2))
    for number, text in enumerate(texts):
        table.add_row(Text(f"{number + 1}", "dim"), _dimmed(text, texts[0] if number else ""))
    return table


def show(drafting: Drafting, seconds: float) -> None:
    """Print finished drafts, their sources and how they were made."""
    numbers: dict[Place, int] = {}
    for draft in drafting.drafts:
        for source in draft.sources:
            numbers.setdefault(_place(source), len(numbers) + 1)
    output.console().print(_ranked(drafting.drafts, numbers))
    listed = {_place(source): source for draft in drafting.drafts for source in draft.sources}
    for place, source in listed.items():
        output.console().print(_source_line(numbers[place], source), markup=False)
    output.note(how(drafting, seconds))


def _ranked(drafts: Sequence[Draft], numbers: dict[Place, int]) -> Table:
    exact = any(draft.logprob is not None for draft in drafts)
    table = Table(header_style="bold")
    for column in ("rank", "log-probability" if exact else "score", "ended by"):
        table.add_column(column, justify="left" if column == "ended by" else "right")
    table.add_column("draft", overflow="fold")
    for rank, draft in enumerate(drafts):
        text = _dimmed(draft.text, drafts[0].text if rank else "")
        for source in draft.sources:
            text.append(f"[{numbers[_place(source)]}]")
        figure = draft.logprob if draft.logprob is not None else draft.score
        ended = f"{draft.reason} {draft.stop!r}" if draft.stop else draft.reason
        table.add_row(str(rank + 1), f"{figure:.3f}", Text(ended), text)
    return table


def _dimmed(text: str, best: str) -> Text:
    """A draft in one line, with the prefix dimmed that it shares with the best one."""
    alike = shared_length(text, best)
    return Text.assemble((text[:alike].replace("\n", "↵"), "dim"), text[alike:].replace("\n", "↵"))


def _place(source: pb.QuoteSource) -> Place:
    return source.corpus, source.document, source.range.byte_start


def _source_line(number: int, source: pb.QuoteSource) -> str:
    where = f" <{source.uri}>" if source.uri else ""
    name = f"{source.corpus.removeprefix('corpora/')}/{source.document} v{source.version}"
    places = f"bytes {source.range.byte_start}-{source.range.byte_end}"
    return f"[{number}] {source.title or source.document}{where}, {name}, {places}"


def how(drafting: Drafting, seconds: float) -> str:
    """Describe how drafts were made, and what they cost."""
    plan, summary = drafting.plan, drafting.summary
    assert plan is not None
    assert summary is not None
    passes = f"{summary.lm_forwards} passes after the prompt's"
    parts = [f"{len(drafting.drafts)} drafts, {plan.strategy}, in {show_seconds(seconds)}: {passes}"]
    if plan.costs:
        expected = ", ".join(f"{name} {show_seconds(cost)}" for name, cost in plan.costs.items())
        parts.append(f"expected: {expected}")
        least = min(plan.costs, key=lambda name: plan.costs[name])
        if plan.strategy in plan.costs and least != plan.strategy:
            parts.append(f"{least} drafts are worse, and would save too little")
    if plan.store:
        weight = f"weight {plan.alpha:g}" if plan.alpha else "not used"
        parts.append(f"n-grams cover {plan.coverage:.0%} of the prompt's end, {weight}")
    if plan.healed:
        parts.append(f"healed from {plan.healed.decode(errors='backslashreplace')!r}")
    return "; ".join(parts) + "."
