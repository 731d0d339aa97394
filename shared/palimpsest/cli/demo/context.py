"""The tour's stop at the codec: a long text stored, carried over a slow link, and answered from."""

import time

from palimpsest.api.codec.v1 import codec_pb2
from palimpsest.cli.demo.steps import MODEL, Context, Row
from palimpsest.cli.kv.load import watched
from palimpsest.cli.output import load_view
from palimpsest.cli.output import printing as output
from palimpsest.cli.output.progress import follow
from palimpsest.cli.output.quantities import show_rate, show_seconds
from palimpsest.client import Client

_CHARACTERS = 8_400
"""About 2,000 tokens."""
_QUESTION = "\n\nIn one sentence, the text above explains"


def carry(context: Context) -> list[Row]:
    """Store a text's cache, load it over the link, and compare answering from it with reading the text again."""
    text, console = _manual(), output.console()
    began = time.perf_counter()
    job = context.client.codec.create_context(model=MODEL, text=text, context_id="manual")
    stored = follow(job, "Reading and encoding a long text")
    seconds = time.perf_counter() - began
    finest, coarsest = stored.levels[0], stored.levels[-1]
    rows = [
        Row(f"read and encoded {stored.token_count} tokens", show_seconds(seconds)),
        Row(
            f"cache {output.size(stored.cache_bytes)}, at {len(stored.levels)} levels",
            f"{coarsest.size_bytes / stored.cache_bytes:.0%} to {finest.size_bytes / stored.cache_bytes:.0%} of it",
        ),
    ]
    settings = codec_pb2.LoadSettings(bandwidth=context.link.bytes_per_second)
    with Client(context.link.target) as far:
        loaded, _ = watched(far, stored.name, settings)
    console.print(
        load_view.row(level for level, _ in loaded.chunks),
        load_view.legend(level for level, _ in loaded.chunks),
    )
    plain = stored.cache_bytes / context.link.bytes_per_second
    rows.append(
        Row(
            f"loaded over {show_rate(context.link.bytes_per_second)}, decoded",
            f"{output.size(loaded.received_bytes)} in {show_seconds(loaded.seconds)}; "
            f"uncoded it would be {show_seconds(plain)}",
        )
    )
    # The other way round the engine would remember the text it has just read.
    first, answer = _ask(context, _QUESTION, context=stored.name, context_load=settings)
    rows.append(Row(f"answered from the context: {answer}", f"first word after {show_seconds(first)}"))
    # One character before it: nothing of it is in memory yet.
    first, answer = _ask(context, "\n" + text + _QUESTION)
    rows.append(Row(f"answered from the text: {answer}", f"first word after {show_seconds(first)}"))
    return rows


def _manual() -> str:
    """A stretch of the reference manual that every Python has."""
    from pydoc_data.topics import topics

    first = [topics[name] for name in ("exceptions", "with", "class", "import") if name in topics]
    return "\n\n".join([*first, *topics.values()])[:_CHARACTERS]


def _ask(tour: Context, prompt: str, **fields: object) -> tuple[float, str]:
    """Return the seconds until the first word, and the answer's first line; print how a context came."""
    began, first, text = time.perf_counter(), 0.0, ""
    console = output.console()
    with tour.client.decoding.generate(model=MODEL, prompt=prompt, max_tokens=24, **fields) as events:  # type: ignore[arg-type]
        for event in events:
            if event.HasField("context"):
                levels = [chunk.level for chunk in event.context.chunks]
                console.print(load_view.row(levels), load_view.legend(levels))
            elif event.HasField("delta"):
                first = first or time.perf_counter() - began
            elif event.HasField("finished"):
                text = event.finished.text
    return first, " ".join(text.split())[:60]
