"""The sample model's engine as the quoting benchmarks use it, and what one generation came to."""

import json
import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from palimpsest.candidates import Calibration
from palimpsest.candidates.calibration import PAPER as PAPER
from palimpsest.candidates.calibration import calibrate, grams, hurts, seen_in
from palimpsest.candidates.samples import Sample, submit_states
from palimpsest.decoding.quoting import QuotingStats
from palimpsest.decoding.quoting.events import QuotingFinished, Span, SpanKind
from palimpsest.engine import Delta, Engine, Event, Failed, Finished, Request, Started
from palimpsest.lm import load
from tests.benchmarks.decode import sample_model
from tests.benchmarks.nest.corpus import Corpus

PREFIX = 48
"""Tokens of a text that passages are retrieved for."""


@dataclass
class Run:
    """One generation: seconds from the first token to the last, and what came."""

    seconds: float
    ids: list[int]
    text: str
    spans: list[Span] = field(default_factory=list)
    stats: QuotingStats = field(default_factory=QuotingStats)

    @property
    def quoted(self) -> int:
        """Tokens in spans."""
        return sum(s.token_end - s.token_start for s in self.spans if s.kind is SpanKind.SPAN)

    def from_document(self, document: str) -> int:
        """Tokens in spans of one document."""
        return sum(
            s.token_end - s.token_start
            for s in self.spans
            if s.kind is SpanKind.SPAN and any(source.document == document for source in s.sources)
        )

    def wrong(self, corpora: Sequence[Corpus]) -> int:
        """Spans that are not byte for byte and character for character what they say."""
        documents = {(c.name, title): text for c in corpora for title, text in c.documents.items()}
        output, bad = self.text.encode(), 0
        for span in self.spans:
            good = output[span.byte_start : span.byte_end] == span.text
            good &= self.text[span.char_start : span.char_end].encode() == span.text
            for source in span.sources:
                text = documents[source.corpus, source.document]
                good &= text.encode()[source.byte_start : source.byte_end] == span.text
                good &= text[source.char_start : source.char_end].encode() == span.text
                good &= source.sha256 == span.sha256
            bad += not good
        return bad


class Bench:
    """One engine, one thread."""

    def __init__(self) -> None:
        dtype = os.environ.get("PALIMPSEST_BENCH_DTYPE", "auto")
        self.engine = Engine(load(sample_model(), "cpu", dtype, threads=1, cache_bytes=512 << 20))
        self.model = self.engine.model
        self.tokenizer: Any = self.model.tokenizer

    def corpus(self, name: str, documents: dict[str, str]) -> Corpus:
        return Corpus(name, documents, self.tokenizer, self.model.hidden_size)

    def chat(self, question: str, start: str = "") -> list[int]:
        """A question, and the first words of the answer."""
        message = [{"role": "user", "content": question}]
        ids = self.tokenizer.apply_chat_template(
            message, tokenize=True, add_generation_prompt=True, return_dict=False
        )
        return ids + self.tokenizer(start, add_special_tokens=False).input_ids

    def run(self, request: Request) -> Run:
        """Generate one answer alone."""
        events: list[tuple[float, Event]] = []
        done = threading.Event()

        def deliver(some: Sequence[Event]) -> None:
            for event in some:
                events.append((time.perf_counter(), event))
                if isinstance(event, Finished | Failed):
                    done.set()

        self.engine.submit(request, deliver)
        assert done.wait(300)
        began = next(at for at, event in events if isinstance(event, Started))
        ended, end = next((at, event) for at, event in events if isinstance(event, Finished))
        spans = {e.id: e for _, e in events if isinstance(e, Span)}
        return Run(
            ended - began,
            [t for _, e in events if isinstance(e, Delta) for t in e.token_ids],
            end.text,
            list(spans.values()),
            end.quoting if isinstance(end, QuotingFinished) else QuotingStats(),
        )

    def calibrated(
        self, corpus: Corpus, titles: Sequence[str], passages: int = 8, question: str = "", tokens: int = 160
    ) -> tuple[Calibration, bool]:
        """Calibrate a corpus on some of its documents, searched without their own passages and with them.

        Returns
        -------
        tuple
            The point, and whether the paper's literal values would have hurt.
        """
        kept = corpus.file.with_suffix(".json") if corpus.file is not None else None
        if kept is not None and kept.exists():
            fields, hurt = json.loads(kept.read_text())
            return Calibration.from_json(fields), hurt
        out, within = [], []
        for title in titles:
            # As it is used: as the answer to a question, or going on from a text's first words.
            query = question.format(title) or self.tokenizer.decode(corpus.ids[title][:PREFIX])
            before = self.chat(query) if question else []
            ids, skip = [*before, *corpus.ids[title][:tokens]], len(before) + 4 if question else PREFIX
            others = grams(i for t, i in corpus.ids.items() if t != title)
            for sample, allowed in ((out, False), (within, True)):
                found = corpus.retrieve(query, passages, lambda p, a=allowed, t=title: a or p.document != t)
                block, _ = corpus.candidates(found, self.engine)
                known = np.ones(len(ids), dtype=bool) if allowed else seen_in(ids, others)
                sample.append(Sample(ids, block, skip, known))
        states, own = (submit_states(self.engine, s, 1024).result() for s in (out, within))
        point, hurt = calibrate(states, own, "sample"), hurts(states, PAPER)
        if kept is not None:
            kept.write_text(json.dumps([point.to_json(), hurt]))
        return point, hurt

    def close(self) -> None:
        self.engine.close()
