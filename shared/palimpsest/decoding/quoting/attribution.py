"""Attribution: from tokens with positions in a candidate block to spans with byte ranges in text and document.

Tokens at consecutive positions of one passage make a run. A run becomes a span once it can grow no more and all its
text is out, so that a stop string, which may remove text, cuts text and span at the same byte. Ends within a character
move inwards. A span is reported only if the hashes of its bytes agree on both sides.
"""

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from palimpsest.candidates.block import Candidates
from palimpsest.candidates.passages import Owner, Passage
from palimpsest.decoding.quoting.events import QuotingStats, Span, SpanKind, SpanRevoked
from palimpsest.decoding.quoting.offsets import OffsetDetokenizer
from palimpsest.decoding.sources import Source

AROUND = 40
"""Characters of a source shown before and after a span."""

_WORD = re.compile(r"\w+")
_COMMON_WORDS = """
a about after all also an and any are as at be because been before but by can could did do does for from had has have he
her his how i if in into is it its may me more most my no not of on one only or other our out she should so some such
than that the their them then there these they this those to up was we were what when which who will with would you your
"""
_COMMON = frozenset(_COMMON_WORDS.split())

Alive = Callable[[str, str, int], bool]
"""Whether a version of a document of a corpus may be quoted."""


@dataclass
class _Run:
    """Consecutive tokens, from ``token`` on in the output and from ``position`` on in the block."""

    id: int
    kind: SpanKind
    passage: int
    position: int
    token: int
    count: int
    lm_weight: float
    ratio: float
    proposals: list[tuple[int, int]] = field(default_factory=list)
    sent: Span | None = None
    revoked: bool = False


class Attribution:
    """Runs of one sequence, and the spans they become.

    Parameters
    ----------
    index
        Which sequence.
    block
        The candidates.
    written
        Offsets of the tokens in the output.
    alive
        Whether a document may be quoted; asked again before each span is reported.
    stats
        Updated in place.
    """

    def __init__(
        self, index: int, block: Candidates, written: OffsetDetokenizer, alive: Alive, stats: QuotingStats
    ) -> None:
        self._index, self._block, self._written, self._alive, self._stats = (
            index,
            block,
            written,
            alive,
            stats,
        )
        self._runs: list[_Run] = []
        self._waiting: list[_Run] = []
        self._open: _Run | None = None
        self._ids = 0
        self._documents: set[tuple[str, str]] = set()

    def token(self, kind: SpanKind | None, position: int, lm_weight: float = 1.0, ratio: float = 1.0) -> None:
        """Record the position that the last token was taken from; a kind of None for a token without a source."""
        run, token = self._open, len(self._written.starts) - 1
        if kind is None or position < 0:
            self._open = None
            return
        passage = int(np.searchsorted(self._block.first, position, side="right")) - 1
        if (
            run is not None
            and (run.kind, run.passage) == (kind, passage)
            and position == run.position + run.count
            and token == run.token + run.count
            and not run.revoked
        ):
            run.count += 1
        else:
            self._open = _Run(self._ids, kind, passage, position, token, 1, lm_weight, ratio)
            self._ids += 1
            self._runs.append(self._open)
            self._waiting.append(self._open)
        if kind is SpanKind.SPAN:
            self._stats.span_tokens += 1
        else:
            self._stats.match_tokens += 1

    def proposal(self, proposed: int, taken: int) -> None:
        """Record a proposal that is part of the last run."""
        if self._runs and self._runs[-1].kind is SpanKind.SPAN and taken:
            self._runs[-1].proposals.append((proposed, taken))

    def ripe(self, output: bytes | bytearray, done: bool) -> list[Span]:
        """Spans that are complete, given the text that is out; all remaining ones once ``done``."""
        complete: list[Span] = []
        for run in list(self._waiting):
            if not done and (run is self._open or self._end(run) > len(output)):
                continue
            self._waiting.remove(run)
            if run.revoked:
                continue
            run.sent = self._span(run, output)
            if run.sent is not None:
                self._count_document(run.sent)
                complete.append(run.sent)
        return complete

    def revoke(self) -> list[Span | SpanRevoked]:
        """Check all runs after a deletion: returns spans with fewer sources, and withdrawals of spans without any."""
        events: list[Span | SpanRevoked] = []
        for run in self._runs:
            sources = self._owners(run.passage)
            if run.revoked:
                continue
            if not sources:
                run.revoked = True
                self._stats.revoked += 1
                last = run.token + run.count
                begin, end = self._written.starts[run.token], self._end(run)
                if run.sent is not None:
                    begin, end = run.sent.byte_start, run.sent.byte_end
                events.append(SpanRevoked(self._index, run.id, begin, end, run.token, last))
                self._open = None if run is self._open else self._open
            elif run.sent is not None and len(sources) < len(run.sent.sources):
                kept = {(o.corpus, o.document, o.version) for o in sources}
                left = tuple(s for s in run.sent.sources if (s.corpus, s.document, s.version) in kept)
                run.sent = replace(run.sent, sources=left)
                self._count_document(run.sent)
                events.append(run.sent)
        return events

    def _count_document(self, span: Span) -> None:
        if span.kind is SpanKind.SPAN:
            self._documents.add((span.sources[0].corpus, span.sources[0].document))
            self._stats.documents = len(self._documents)

    def _end(self, run: _Run) -> int:
        return self._written.ends[run.token + run.count - 1]

    def _owners(self, passage: int) -> list[Passage | Owner]:
        own = self._block.passages[passage]
        return [o for o in (own, *own.owners) if self._alive(o.corpus, o.document, o.version)]

    def _span(self, run: _Run, output: bytes | bytearray) -> Span | None:
        """A run as a span, cut to the text that is out; None if nothing is left of it or the bytes differ."""
        block, passage = self._block, self._block.passages[run.passage]
        offsets, text = block.byte_offsets(run.passage), passage.text
        first = run.position - int(block.first[run.passage])
        begin, end = int(offsets[first]), int(offsets[first + run.count])
        starts = self._written.starts[run.token : run.token + run.count]
        if self._end(run) > len(output):  # a stop string took the rest back
            kept = int(np.searchsorted(starts, len(output))) - 1
            if kept < 0:
                return None
            at = first + kept
            end = int(offsets[at]) + min(int(offsets[at + 1] - offsets[at]), len(output) - starts[kept])
        begin, end = inwards(text, begin, end)
        owners = self._owners(run.passage)
        if end <= begin or not owners:
            return None
        # Tokens that still contribute bytes.
        skip = int(np.searchsorted(offsets[first + 1 : first + run.count + 1], begin, side="right"))
        last = int(np.searchsorted(offsets[first : first + run.count], end))
        # Offsets are exact for whole characters only: bytes before and after may have become longer.
        start = starts[skip] + begin - int(offsets[first + skip])
        stop = start + end - begin
        source, said = text[begin:end], bytes(output[start:stop])
        digest = hashlib.sha256(source).hexdigest()
        if hashlib.sha256(said).hexdigest() != digest:
            self._stats.dropped += 1
            return None
        positions = (begin, end, first + skip, first + last)
        chars = _characters(output[:start])
        length = _characters(source)
        return Span(
            index=self._index, id=run.id, kind=run.kind,
            byte_start=start, byte_end=stop, char_start=chars, char_end=chars + length,
            token_start=run.token + skip, token_end=run.token + last,
            text=source, sha256=digest,
            sources=tuple(source_of(passage, o, *positions, digest) for o in owners),
            lm_weight=run.lm_weight, ratio=run.ratio, proposals=tuple(run.proposals),
            weak=is_weak(source.decode(errors="replace"), last - skip),
        )  # fmt: skip


def source_of(
    passage: Passage, owner: Passage | Owner, begin: int, end: int, first: int, last: int, digest: str
) -> Source:
    """Where bytes of a passage are in one of the documents that contain them.

    Parameters
    ----------
    passage, owner
        The passage, and itself or another owner of its bytes.
    begin, end
        Bytes, within the passage's text.
    first, last
        Tokens that hold them, within the passage.
    digest
        SHA-256 of the bytes, in hex.
    """
    text = passage.text
    char = owner.char_start + _characters(text[:begin])
    return Source(
        corpus=owner.corpus, document=owner.document, version=owner.version,
        passage=owner.passage if isinstance(owner, Passage) else -1, title=owner.title, uri=owner.uri,
        byte_start=owner.byte_start + begin, byte_end=owner.byte_start + end,
        char_start=char, char_end=char + _characters(text[begin:end]),
        token_start=owner.token_start + first, token_end=owner.token_start + last,
        sha256=digest, document_sha256=owner.document_sha256, score=passage.score,
        prefix=text[:begin].decode(errors="ignore")[-AROUND:],
        suffix=text[end:].decode(errors="ignore")[:AROUND],
    )  # fmt: skip


def _characters(text: bytes | bytearray) -> int:
    """Code points whose first byte is in the text."""
    return int((np.frombuffer(text, dtype=np.uint8) & 0xC0 != 0x80).sum())


def inwards(text: bytes, begin: int, end: int) -> tuple[int, int]:
    """Move the ends of a range inwards until it holds whole characters; empty if there is none."""
    while begin < end and text[begin] & 0xC0 == 0x80:
        begin += 1
    last = end
    while last > begin and text[last - 1] & 0xC0 == 0x80:
        last -= 1
    if last > begin:
        lead = text[last - 1]
        size = 4 if lead >= 0xF0 else 3 if lead >= 0xE0 else 2 if lead >= 0xC0 else 1
        end = end if end - last + 1 >= size else last - 1
    else:
        end = begin
    return begin, end


def is_weak(text: str, tokens: int) -> bool:
    """Whether a span is too short, or made of too common words, to be a quotation."""
    return tokens < 3 or all(word.lower() in _COMMON for word in _WORD.findall(text))
