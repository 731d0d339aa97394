"""``palimpsest generate``: text on standard output as the model writes it."""

import sys
from typing import Annotated, Any

import typer

from palimpsest.api.decoding.v1 import decoding_pb2
from palimpsest.cli.input.reading import typed_text
from palimpsest.cli.kv.options import Deadline, LossBudget, load_settings
from palimpsest.cli.names import context_name
from palimpsest.cli.output import load_view as cells
from palimpsest.cli.output import printing as output
from palimpsest.cli.output.quantities import show_seconds
from palimpsest.cli.output.quotes import (
    Corpus,
    HtmlFile,
    Inline,
    Kept,
    NestMode,
    Passages,
    nest_settings,
    print_sources,
    write_page,
)
from palimpsest.cli.output.waiting import announced
from palimpsest.cli.sampling import (
    Constraints,
    Count,
    Logprobs,
    MaxTokens,
    MinP,
    Model,
    Seed,
    Stop,
    Temperature,
    TopK,
    TopP,
    chosen_model,
    sampling,
)
from palimpsest.cli.session import Session, command


def generate(
    session: Session,
    prompt: Annotated[str, typer.Argument(help="The prompt; - or nothing reads standard input.")] = "-",
    model: Model = "",
    chat: Annotated[
        bool, typer.Option("--chat", help="The prompt is a user's message to a chat model.")
    ] = False,
    system: Annotated[str, typer.Option(help="System message; implies --chat.")] = "",
    n: Count = 1,
    max_tokens: MaxTokens = 0,
    temperature: Temperature = 0.0,
    top_k: TopK = 0,
    top_p: TopP = None,
    min_p: MinP = 0.0,
    seed: Seed = None,
    stop: Stop = None,
    logprobs: Logprobs = None,
    constraints: Constraints = Constraints(),
    ignore_eos: Annotated[
        bool, typer.Option("--ignore-eos", help="Continue past the end-of-sequence token.")
    ] = False,
    context: Annotated[
        str, typer.Option(metavar="NAME", help="Stored context that the prompt continues.")
    ] = "",
    deadline: Deadline = "",
    loss_budget: LossBudget = 0.0,
    corpus: Corpus = None,
    mode: NestMode = "",
    passages: Passages = 0,
    html: HtmlFile = None,
) -> None:
    """Generate text. One sequence streams as it is generated; several are printed as each one ends.

    With --context, the context's stored KV cache is loaded instead of being computed; --deadline and --loss-budget
    set its quality. With --corpus, the text may quote that corpus: each quote carries the number of its source, and the
    sources are listed below; --html writes a page with both.
    """
    if prompt == "-":
        prompt = typed_text("prompt")
    asked = _input(prompt, chat, system)
    if context:
        asked["context"] = context_name(context)
        asked["context_load"] = load_settings(deadline=deadline, loss_budget=loss_budget)
    if corpus:
        asked["nest"] = nest_settings(corpus, mode, passages)
    if html and (not corpus or n > 1):
        raise typer.BadParameter("--html needs a --corpus and a single sequence.")
    with session.client() as client:
        events = client.decoding.generate(
            model=chosen_model(client, model),
            sampling=sampling(temperature, top_k, top_p, min_p, seed, constraints),
            n=n,
            max_tokens=max_tokens,
            stop=stop,
            logprobs=logprobs,
            ignore_eos=ignore_eos,
            **constraints.fields(),
            **asked,
        )
        with events:
            kept = Kept(announced(events))
            if session.json:
                for event in kept:
                    output.print_json(event)
            else:
                _print(kept, n, logprobs is not None)
        if html:
            write_page(html, kept.cited, prompt, model)


def _input(prompt: str, chat: bool, system: str) -> dict[str, Any]:
    if not (chat or system):
        return {"prompt": prompt}
    messages = [{"role": "system", "content": system}] if system else []
    return {"chat": [*messages, {"role": "user", "content": prompt}]}


def _print(events: Kept, n: int, with_logprobs: bool) -> None:
    scored: dict[int, list[decoding_pb2.TokenLogprob]] = {}
    inline = Inline(events.cited)
    for event in events:
        if n == 1:
            sys.stdout.write(inline.take(event))
            sys.stdout.flush()
        if event.HasField("delta"):
            scored.setdefault(event.delta.index, []).extend(event.delta.logprobs)
        elif event.HasField("context"):
            _tell(event.context)
        elif event.HasField("finished"):
            done = event.finished
            sys.stdout.write("\n" if n == 1 else f"[{done.index}] {done.text}\n")
            if n == 1:
                print_sources(events.cited)
            if with_logprobs:
                _print_logprobs(scored.get(done.index, []), done.logprob)
            sys.stdout.flush()


def _tell(loaded: decoding_pb2.ContextLoaded) -> None:
    """Print on standard error how the context was loaded."""
    levels, console = [chunk.level for chunk in loaded.chunks], output.console(stderr=True)
    console.print(cells.row(levels))
    console.print(cells.legend(levels))
    output.note(
        f"{sum(chunk.tokens for chunk in loaded.chunks)} tokens of context in {show_seconds(loaded.seconds)}, "
        f"{output.size(loaded.received_bytes)} received, loss {loaded.loss:.4g} nats a token."
    )


def _print_logprobs(tokens: list[decoding_pb2.TokenLogprob], total: float) -> None:
    rows = [
        (
            _shown(token),
            f"{token.logprob:.4f}",
            "  ".join(f"{_shown(other)} {other.logprob:.4f}" for other in token.top),
        )
        for token in tokens
    ]
    output.print_table(["token", ">log-probability", "alternatives"], rows, title=f"Total {total:.4f} nats")


def _shown(token: decoding_pb2.TokenLogprob) -> str:
    return repr(token.bytes.decode(errors="backslashreplace"))


def add(app: typer.Typer) -> None:
    """Register the command."""
    command(app)(generate)
