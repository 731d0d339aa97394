"""The tour's drafting step: n-grams of the manual, three continuations of a sentence, a word completed."""

import time
from typing import Any

from palimpsest.cli.demo.quotes import CORPUS
from palimpsest.cli.demo.steps import MODEL, Context, Row
from palimpsest.cli.output import drafts as draft_view
from palimpsest.cli.output import printing as output
from palimpsest.cli.output.progress import follow
from palimpsest.cli.output.quantities import show_seconds
from palimpsest.client import Drafting

_STORE = "reference"
_SENTENCE = "If the iterator is exhausted, the"
_WORD = "The list is sor"
"""Ends within a word, where a tokenizer would not have split it."""


def draft(context: Context) -> list[Row]:
    """Build an n-gram store of the manual, draft with it, then heal a prompt."""
    datastore = context.client.datastore
    began = time.perf_counter()
    job = datastore.build_ngram_store(store_id=_STORE, corpus=f"corpora/{CORPUS}")
    store = follow(job, "Counting n-grams")
    seconds = show_seconds(time.perf_counter() - began)
    figures = f"{store.token_count} tokens, {output.size(store.size_bytes)}, {seconds}"
    rows = [Row("counted the manual's n-grams of 2 to 6 tokens", figures)]
    made = _drafts(context, _SENTENCE, ngrams=store.name)
    rows.append(Row(f"three drafts of: {_SENTENCE} …", _told(made)))
    healed, plain = (
        _drafts(context, _WORD, heal=heal, stop_at="word", max_tokens=6) for heal in (True, False)
    )
    word = _WORD.split()[-1]
    rows.append(
        Row(
            f"healed where it ends within a word: {_WORD}",
            f"{word}{healed.drafts[0].text}; otherwise {word}{plain.drafts[0].text}",
        )
    )
    return rows


def _drafts(context: Context, prompt: str, **settings: Any) -> Drafting:
    """Make drafts, and print them when they are finished."""
    console = output.console()
    console.print(f"[dim]{prompt}[/] …")
    with context.client.decoding.drafts(
        model=MODEL, prompt=prompt, k=3, strategy="verified", **settings
    ) as made:
        draft_view.watch(made)
    console.print(draft_view.rows([draft.text for draft in made.drafts]))
    return made


def _told(made: Drafting) -> str:
    plan, summary = made.plan, made.summary
    assert plan is not None
    assert summary is not None
    seconds = show_seconds(summary.draft_seconds + summary.verify_seconds)
    known = f"n-grams cover {plan.coverage:.0%} of it"
    return f"{summary.lm_forwards} passes, {seconds}; the best of {summary.made}; {known}"
