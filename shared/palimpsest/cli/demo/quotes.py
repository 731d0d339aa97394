"""The tour's stops at the datastore: the manual indexed, questions answered with quotes; one document forgotten."""

import time

from palimpsest.api.decoding.v1 import decoding_pb2
from palimpsest.cli.demo.steps import MODEL, Context, Row
from palimpsest.cli.output import printing as output
from palimpsest.cli.output.progress import follow
from palimpsest.cli.output.quantities import show_seconds
from palimpsest.cli.output.quotes import Inline, Kept
from palimpsest.client.corpora import NewDocument
from palimpsest.client.quotes import CitedText

CORPUS = "reference"
_QUESTIONS = (
    ("What does the with statement do?", "The with statement"),
    ("What is a lambda expression?", "Lambda expressions"),
    ("What does the assert statement do?", "Assert statements"),
)
_FORGOTTEN = "with"
"""Answers the first question."""
_PASSAGES = 4
"""Few, as their keys are computed while one waits."""


def cite(context: Context) -> list[Row]:
    """Index the reference manual that every Python has, and quote from it."""
    from pydoc_data.topics import topics

    datastore = context.client.datastore
    # Words rather than meanings are indexed: the tour does not wait for a sentence encoder.
    corpus = datastore.create_corpus(corpus_id=CORPUS, model=MODEL, encoder="hashed-words").name
    documents = [
        NewDocument(
            name, text, title=f"Python: {name}", uri=f"https://docs.python.org/3/search.html?q={name}"
        )
        for name, text in topics.items()
    ]
    began = time.perf_counter()
    added = sum(answer.changed for answer in datastore.add(corpus, documents, defer_vectors=True))
    stored = follow(datastore.build_index(corpus=corpus), "Indexing the reference manual")
    seconds = show_seconds(time.perf_counter() - began)
    figures = f"{stored.passage_count} passages, {stored.token_count} tokens, {seconds} with {stored.encoder}"
    rows = [Row(f"indexed {added} documents of the Python reference manual", figures)]
    for question, opening in _QUESTIONS:
        cited = _ask(context, question, opening, corpus)
        rows.append(Row(question, _told(cited)))
    return rows


def forget(context: Context) -> list[Row]:
    """Delete one document and ask again."""
    corpus = f"corpora/{CORPUS}"
    receipt = context.client.datastore.delete_documents(corpus=corpus, documents=[_FORGOTTEN])
    rows = [Row(f"deleted {receipt.deleted[0].document}, durable", f"tombstone {receipt.tombstone_version}")]
    question, opening = _QUESTIONS[0]
    again = _ask(context, question, opening, corpus)
    left = sum(source.document == _FORGOTTEN for source in again.sources)
    rows.append(Row(f"asked again: {left} quotes of it", _told(again)))
    return rows


def _ask(context: Context, question: str, opening: str, corpus: str) -> CitedText:
    """Print the answer with its numbered sources."""
    console = output.console()
    console.print(f"[dim]{question}[/]")
    with context.client.decoding.generate(
        model=MODEL,
        prompt=f"Question: {question}\nAnswer: {opening}",
        max_tokens=48,
        nest=decoding_pb2.NestSettings(corpora=[corpus], query=question, passages=_PASSAGES),
    ) as events:
        kept = Kept(events)
        inline = Inline(kept.cited)
        text = "".join(inline.take(event) for event in kept)
    console.print(" ".join((opening + text).split()), markup=False)
    for line in kept.cited.list_sources():
        console.print(line, markup=False, style="dim")
    return kept.cited


def _told(cited: CitedText) -> str:
    assert cited.finished is not None
    statistics, tokens = cited.finished.nest, cited.finished.generated_tokens
    names = ", ".join(sorted({source.document for source in cited.sources})) or "nothing"
    passes = statistics.lm_forwards / max(1, tokens)
    return f"{statistics.span_token_ratio:.0%} quoted, from {names}; {passes:.2f} passes a token"
