"""Log-probabilities of a given text under the model, the fixed mixture and the mixture by confidence."""

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from palimpsest.candidates.mixture import Mixed, search
from palimpsest.candidates.settings import Mode
from palimpsest.decoding.quoting.request import NestRequest
from palimpsest.engine.requests import Request
from palimpsest.engine.scoring import CHUNK
from palimpsest.engine.tasks import TaskSteps
from palimpsest.lm.blocks import BLOCK
from palimpsest.lm.forward import SequenceInput
from palimpsest.lm.model import LanguageModel

if TYPE_CHECKING:
    from palimpsest.engine.engine import Engine


@dataclass(frozen=True)
class NestScores:
    """Log-probabilities (nats) of n tokens, each given those before it.

    Attributes
    ----------
    ids
        int64 [n]: the tokens.
    lm, knn_lm, nest
        float64 [n]: under the model alone, the mixture with fixed weight, and the mixture by confidence.
    weight, ratio
        float32 [n]: the model's weight in the latter, and the distance ratio.
    """

    ids: np.ndarray
    lm: np.ndarray
    knn_lm: np.ndarray
    nest: np.ndarray
    weight: np.ndarray
    ratio: np.ndarray

    def perplexity(self, name: str) -> float:
        """Perplexity under ``"lm"``, ``"knn_lm"`` or ``"nest"``."""
        return float(np.exp(-getattr(self, name).mean()))


def score_steps(
    model: LanguageModel, ids: Sequence[int], nest: NestRequest, skip: int = 0
) -> TaskSteps[NestScores]:
    """Score a text in one pass, yielding after each chunk of 64 tokens.

    The text is given, not generated, so no token leaves the index on the way.

    Parameters
    ----------
    model
        Used by the calling thread alone.
    ids
        The text's tokens.
    nest
        Candidates and settings; the mode does not matter.
    skip
        Leading tokens that are not scored.
    """
    index, first = nest.index(model), max(1, skip)
    cache, settings = model.new_cache(), nest.filled
    dead = nest.dead()[nest.candidates.passage_of()[index.positions.cpu().numpy()]] if len(index) else []
    live = torch.from_numpy(~np.asarray(dead, dtype=bool)).to(model.device)
    parts: list[list[np.ndarray]] = []
    try:
        for start in range(0, len(ids) - 1, CHUNK):
            part = ids[start : min(start + CHUNK, len(ids) - 1)]
            wanted = start + len(part) >= first
            kind = "all" if wanted else "none"
            output = model.forward([SequenceInput(cache, part, logits=kind, retrieval_queries=kind)])[0]
            if wanted:
                assert output.retrieval_queries is not None
                assert settings.r is not None
                targets = torch.tensor(list(ids[start + 1 : start + 1 + len(part)]), device=model.device)
                found = search(index, output.retrieval_queries, live, settings.r)
                mixed = Mixed(index, found, output.logits, replace(settings, mode=Mode.NEST))
                fixed = Mixed(index, found, output.logits, replace(settings, mode=Mode.KNN_LM))
                own = output.logits.gather(1, targets[:, None])[:, 0] - mixed.total
                columns = [targets, own, *(m.of_tokens(targets).log() for m in (fixed, mixed))]
                rows = [column.cpu().numpy() for column in columns]
                parts.append([row[max(0, first - start - 1) :] for row in (*rows, mixed.weight, mixed.ratio)])
            yield None
    finally:
        cache.release()
    joined = [np.concatenate(column) for column in zip(*parts, strict=True)] if parts else [np.zeros(0)] * 6
    ids_, lm, knn_lm, both, weight, ratio = joined
    lm, knn_lm, both = (column.astype(np.float64) for column in (lm, knn_lm, both))
    return NestScores(ids_.astype(np.int64), lm, knn_lm, both, weight, ratio)


def submit_nest_score(
    engine: "Engine", ids: Sequence[int], nest: NestRequest, skip: int = 0
) -> "Future[NestScores]":
    """Score a text between an engine's steps; see :func:`score_steps`.

    Raises
    ------
    InvalidArgument, FailedPrecondition, ResourceExhausted, Unavailable
        As :meth:`Engine.submit`.
    """
    engine.check(Request(ids, max_tokens=0, strategy=nest))
    steps = score_steps(engine.model, ids, nest, skip)
    return engine.submit_task(steps, -(-len(ids) // BLOCK), len(ids))
