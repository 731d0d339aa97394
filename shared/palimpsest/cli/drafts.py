"""``palimpsest drafts``: several continuations of a text to choose from."""

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from palimpsest.cli.input.reading import typed_text
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


Prompt = Annotated[str, typer.Argument(help="The text to continue; - or nothing reads standard input.")]
Count = Annotated[int, typer.Option("-k", min=1, max=10, help="Number of drafts.")]
Strategy = Annotated[str, typer.Option(help=f"{', '.join(STRATEGIES)}.")]
Ngrams = Annotated[str, typer.Option(metavar="NAME", help="n-gram store, for superposed drafts.")]
Alpha = Annotated[
    float | None, typer.Option(min=0.0, max=1.0, help="Weight of the n-grams. Default: the tuned weight.")
]
MaxTokens = Annotated[int, typer.Option(min=0, help="Maximum number of tokens in a draft; 0 for 10.")]
StopAt = Annotated[str, typer.Option(help="End after a word, sentence or line.")]
Heal = Annotated[bool, typer.Option("--heal", help="The prompt may end within a word.")]
ResetEvery = Annotated[
    int, typer.Option(min=0, help="Superposed: all drafts continue from the best one after this many tokens.")
]
OverGenerate = Annotated[
    int, typer.Option(min=0, help="Verified: drafts made, of which the best k are kept; 0 for 2 k.")
]
Diversity = Annotated[
    float | None, typer.Option(min=0.0, help="Diverse: nats subtracted for each earlier beam's token.")
]
Corpus = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME", help="Corpus whose passages compete with the drafts; repeatable."),
]
Exact = Annotated[
    bool, typer.Option("--exact", help="Superposed: score the drafts exactly, for their log-probabilities.")
]
HtmlFile = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Also write a page with the drafts side by side.")
]


def drafts(
    session: Session,
    prompt: Prompt = "-",
    k: Count = 3,
    model: Model = "",
    strategy: Strategy = "auto",
    ngrams: Ngrams = "",
    alpha: Alpha = None,
    max_tokens: MaxTokens = 0,
    stop_at: StopAt = "",
    stop: Stop = None,
    heal: Heal = False,
    temperature: Temperature = 0.0,
    top_p: TopP = None,
    seed: Seed = None,
    reset_every: ResetEvery = 0,
    over_generate: OverGenerate = 0,
    diversity: Diversity = None,
    corpus: Corpus = None,
    exact: Exact = False,
    html: HtmlFile = None,
) -> None:
    """Make several short continuations of a text, best first.

    A terminal shows them while they grow. The prefix that a draft shares with the best one is dimmed. --temperature,
    --top-p and --seed apply to nucleus; with a temperature, auto considers samples instead of beams.
    """
    for option, given, known in (("--strategy", strategy, STRATEGIES), ("--stop-at", stop_at, ("", *STOPS))):
        if given not in known:
            raise typer.BadParameter(
                f"{given!r} is not one of {', '.join(filter(None, known))}", param_hint=option
            )
    if prompt == "-":
        prompt = typed_text("prompt")
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
            diversity=diversity,
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
