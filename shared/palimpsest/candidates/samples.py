"""Samples for calibration: the model's states and their neighbours at sampled positions."""

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from palimpsest.candidates.block import Candidates
from palimpsest.candidates.calibration import R, States
from palimpsest.candidates.mixture import KeyIndex, search
from palimpsest.engine.limits import check_ids
from palimpsest.engine.scoring import CHUNK
from palimpsest.engine.tasks import TaskSteps
from palimpsest.lm.blocks import BLOCK
from palimpsest.lm.forward import SequenceInput
from palimpsest.lm.model import LanguageModel
from palimpsest.lm.token_bytes import special_ids

if TYPE_CHECKING:
    from palimpsest.engine.engine import Engine


@dataclass(frozen=True)
class Sample:
    """A text to sample positions from, and the passages to search.

    Parameters
    ----------
    ids
        Tokens of a part of a document.
    candidates
        Passages retrieved for it, with keys: from other documents only, or with its own among them.
    skip
        Leading tokens that are context only.
    seen
        bool [len(ids)]: whether the store has the six tokens before each; see :func:`calibration.seen_in`.
    """

    ids: Sequence[int]
    candidates: Candidates
    skip: int
    seen: np.ndarray


def state_steps(
    model: LanguageModel, samples: Sequence[Sample], neighbours: int = max(R)
) -> TaskSteps[States]:
    """Collect states, yielding after each chunk of 64 tokens.

    Parameters
    ----------
    model
        Used by the calling thread alone.
    samples
        At least one.
    neighbours
        Maximum number of neighbours kept for each position.
    """
    special = special_ids(model.tokenizer) | model.eos_ids
    parts: list[States] = []
    for sample in samples:
        index = KeyIndex(sample.candidates, special, model.device)
        live = torch.ones(len(index), dtype=torch.bool, device=model.device)
        cache, ids, first = model.new_cache(), sample.ids, max(1, sample.skip)
        try:
            for start in range(0, len(ids) - 1, CHUNK):
                part = ids[start : min(start + CHUNK, len(ids) - 1)]
                wanted = start + len(part) >= first
                kind = "all" if wanted else "none"
                output = model.forward([SequenceInput(cache, part, logits=kind, retrieval_queries=kind)])[0]
                if wanted:
                    targets = ids[start + 1 : start + 1 + len(part)]
                    cut = max(0, first - start - 1)
                    assert output.retrieval_queries is not None
                    parts.append(
                        _states(
                            index, live, output.logits[cut:], output.retrieval_queries[cut:], list(targets[cut:]),
                            sample.seen[start + 1 + cut : start + 1 + len(part)], neighbours,
                        )
                    )  # fmt: skip
                yield None
        finally:
            cache.release()
    return States.joined(parts)


def _states(
    index: KeyIndex, live: torch.Tensor, logits: torch.Tensor, keys: torch.Tensor, targets: list[int],
    seen: np.ndarray, neighbours: int,
) -> States:  # fmt: skip
    count = len(targets)
    ids = torch.tensor(targets, device=logits.device)
    lm = logits.gather(1, ids[:, None])[:, 0] - torch.logsumexp(logits, dim=-1)
    distances = np.full((count, neighbours), np.inf, dtype=np.float32)
    hits = np.zeros((count, neighbours), dtype=bool)
    priors = np.zeros((count, neighbours), dtype=np.float32)
    found = search(index, keys, live, neighbours)
    if found is not None:
        width = found.keys.shape[1]
        distances[:, :width] = found.distances.cpu().numpy()
        values = index.vocabulary[index.key_values[found.keys]]
        hits[:, :width] = (values == ids[:, None]).cpu().numpy()
        priors[:, :width] = index.prior[found.keys].cpu().numpy()
    return States(distances, hits, priors, lm.cpu().numpy(), seen.astype(bool), index.size)


def submit_states(engine: "Engine", samples: Sequence[Sample], neighbours: int = max(R)) -> "Future[States]":
    """Collect states between an engine's steps; see :func:`state_steps`.

    Raises
    ------
    InvalidArgument, ResourceExhausted, Unavailable
        As :meth:`Engine.submit_task`.
    """
    for sample in samples:
        check_ids(engine.model, (*sample.ids, 0))
    longest = max(len(sample.ids) for sample in samples)
    return engine.submit_task(state_steps(engine.model, samples, neighbours), -(-longest // BLOCK), longest)
