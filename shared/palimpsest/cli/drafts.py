"""``palimpsest drafts``: several ways a text may go on, to choose from."""

import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from palimpsest.cli.ngrams import full_name
from palimpsest.cli.output import drafts as draft_view
from palimpsest.cli.output import printing as output
from palimpsest.cli.output.quotes import nest_settings
from palimpsest.cli.sampling import Model, Seed, Stop, Temperature, TopP, chosen_model, sampling
from palimpsest.cli.session import Session, command
from palimpsest.client import Drafting
from palimpsest.client.drafts import STRATEGIES
from palimpsest.report.drafts import drafts_page

STOPS = ("word", "sentence", "line")


def drafts(
    session: Session,
    prompt: Annotated[
        str, typer.Argument(help="What they go on with; - or nothing reads standard input.")
    ] = "-",
    k: Annotated[int, typer.Option("-k", min=1, max=10, help="Drafts.")] = 3,
    model: Model = "",
    strategy: Annotated[str, typer.Option(help=f"{', '.join(STRATEGIES)}.")] = "auto",
    ngrams: Annotated[str, typer.Option(metavar="NAME", help="n-gram store, for superposed drafts.")] = "",
    alpha: Annotated[
        float | None, typer.Option(min=0.0, max=1.0, help="Share of the n-grams. Default: as tuned.")
    ] = None,
    max_tokens: Annotated[int, typer.Option(min=0, help="Most tokens of a draft; 0 for 10.")] = 0,
    stop_at: Annotated[str, typer.Option(help="End after a word, sentence or line.")] = "",
    stop: Stop = None,
    heal: Annotated[bool, typer.Option("--heal", help="The prompt may end within a word.")] = False,
    temperature: Temperature = 0.0,
    top_p: TopP = None,
    seed: Seed = None,
    reset_every: Annotated[
        int, typer.Option(min=0, help="Superposed: all go on from the best after so many tokens.")
    ] = 0,
    over_generate: Annotated[
        int, typer.Option(min=0, help="Verified: drafts made, of which the best k stay; 0 for 2 k.")
    ] = 0,
    corpus: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="Corpus to quote drafts from, judged beside the others; repeatable."
        ),
    ] = None,
    exact: Annotated[
        bool, typer.Option("--exact", help="Superposed: read them once more for their log-probabilities.")
    ] = False,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write a page with them side by side.")
    ] = None,
) -> None:
    """Make several drafts of how a text goes on, best first.

    On a terminal they are shown while they come along. What a draft says like the best one is dimmed. --temperature,
    --top-p and --seed are for nucleus; with a temperature, auto takes samples where it does not superpose.
    """
    for option, given, known in (("--strategy", strategy, STRATEGIES), ("--stop-at", stop_at, ("", *STOPS))):
        if given not in known:
            raise typer.BadParameter(
                f"{given!r} is none of {', '.join(filter(None, known))}", param_hint=option
            )
    if prompt == "-":
        if sys.stdin.isatty():
            output.note("Reading the prompt from standard input; Ctrl-D ends it.")
        prompt = sys.stdin.read()
    asked: dict[str, Any] = {"nest": nest_settings(corpus, "", 0)} if corpus else {}
    with session.client() as client:
        model, began = chosen_model(client, model), time.perf_counter()
        drafting = client.decoding.drafts(
            model=model,
            prompt=prompt,
            k=k,
            strategy=strategy,
            ngrams=full_name(ngrams) if ngrams else None,
            heal=heal,
            stop_at=stop_at or None,
            max_tokens=max_tokens,
            stop=stop,
            sampling=sampling(temperature, 0, top_p, 0.0, seed),
            alpha=alpha,
            reset_every=reset_every,
            over_generate=over_generate,
            exact=exact,
            **asked,
        )
        with drafting:
            draft_view.watch(drafting, live=not session.json)
        seconds = time.perf_counter() - began
    if session.json:
        output.print_json(_document(drafting, model, seconds))
    else:
        draft_view.show(drafting, seconds)
    if html:
        html.write_text(drafts_page(drafting.drafts, prompt, drafting.plan, model), encoding="utf-8")
        output.note(f"Wrote {html}.")


def _document(drafting: Drafting, model: str, seconds: float) -> dict[str, Any]:
    plan, summary = drafting.plan, drafting.summary
    assert plan is not None
    assert summary is not None
    return {
        "model": model,
        "plan": {**vars(plan), "healed": plan.healed.decode(errors="backslashreplace")},
        "drafts": [
            {"rank": rank, **vars(draft), "sources": [output.plain(source) for source in draft.sources]}
            for rank, draft in enumerate(drafting.drafts)
        ],
        "summary": output.plain(summary),
        "seconds": seconds,
    }


def add(app: typer.Typer) -> None:
    """Register the command."""
    command(app)(drafts)
