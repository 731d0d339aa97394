"""Building and compacting a corpus: which segments and logs a job rewrites."""

from collections.abc import Sequence

from palimpsest.progress import NullProgress, Progress
from services.datastore.index.encoder import Encoder
from services.datastore.store.corpus import Corpus
from services.datastore.store.rewriting import SEGMENT_TOKENS, Rewrite, RewriteResult
from services.datastore.store.segment import Segment

SMALL_SHARE = 8
"""Compaction merges segments smaller than one eighth of a full segment."""
DELETED_SHARE = 0.2
"""Compaction rewrites a segment once this share of its tokens has been deleted."""


def build(
    corpus: Corpus,
    encoder: Encoder,
    progress: Progress | None = None,
    *,
    segment_tokens: int = SEGMENT_TOKENS,
) -> RewriteResult:
    """Seal the documents in the logs into segments, and encode passages that have no vector yet.

    Raises
    ------
    Aborted
        CORPUS_FENCED: a later job has taken over the corpus; nothing was published.
    """
    with Rewrite(corpus, lambda _: [], seal=True) as rewrite:
        rewrite.write(encoder, progress or NullProgress(), segment_tokens)
        return rewrite.publish()


def compact(
    corpus: Corpus,
    encoder: Encoder,
    progress: Progress | None = None,
    *,
    segment_tokens: int = SEGMENT_TOKENS,
) -> RewriteResult:
    """Merge small segments, and rewrite segments with many deleted documents without them.

    Raises
    ------
    Aborted
        CORPUS_FENCED: a later job has taken over the corpus; nothing was published.
    """

    def worth_rewriting(segments: Sequence[Segment]) -> list[Segment]:
        small = [s for s in segments if s.live_tokens < segment_tokens // SMALL_SHARE]
        sparse = [s for s in segments if s.deleted_tokens > DELETED_SHARE * max(1, s.tokens)]
        return list({s.name: s for s in [*(small if len(small) > 1 else []), *sparse]}.values())

    with Rewrite(corpus, worth_rewriting, seal=False) as rewrite:
        rewrite.write(encoder, progress or NullProgress(), segment_tokens)
        return rewrite.publish()
