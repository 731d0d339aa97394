"""Comparing forward passes with transformers' own when a model is loaded."""

import logging
from typing import Any

import torch

from palimpsest.lm.forward import SequenceInput

log = logging.getLogger(__name__)

_PROBE = 24
"""Tokens of the prompt on which passes are compared."""


def probe_ids(model: Any) -> torch.Tensor:
    """Return token ids for a comparison: int64 [24], on the model's device."""
    ids = (torch.arange(1, _PROBE + 1) * 7919) % max(2, model.vocab_size - 1)
    return ids.to(model.device)


def agrees(model: Any, probe: torch.Tensor, expected: torch.Tensor) -> bool:
    """Compare a prompt pass, and single steps after it, with transformers' pass over all tokens at once.

    Parameters
    ----------
    model
        With the pass that is to be compared.
    probe
        Token ids: int64 [tokens].
    expected
        transformers' logits: float32 [tokens, vocabulary].
    """
    cut = _PROBE - 4
    cache = model.new_cache()
    try:
        ids = probe.tolist()
        parts = [model.forward([SequenceInput(cache, ids[:cut], logits="all")])[0].logits]
        parts += [model.forward([SequenceInput(cache, [token])])[0].logits for token in ids[cut:]]
    except Exception:
        log.exception("the %s forward pass failed on the probe", model.forward_kind)
        return False
    finally:
        cache.release()
    difference = (torch.cat(parts) - expected).norm() / expected.norm().clamp_min(1e-6)
    log.debug("forward %s differs by %.2g", model.forward_kind, difference)
    return bool(difference < (1e-3 if model.dtype == torch.float32 else 0.1))
