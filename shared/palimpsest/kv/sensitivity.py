"""Measure what errors in a cache do to a model's predictions: the Fisher information of keys and values.

For small errors ``e`` in a context's keys and values the divergence of the next-token distribution is ``e' F e / 2``
with ``F`` the expected outer product of the gradient of the log-probability of a token drawn from the model itself.
Averaged over positions, one matrix for each layer, it gives the directions along which bits are worth spending. It
covers attention, the output projection and everything after it, for any architecture.
"""

from collections.abc import Sequence

import torch
from transformers import PreTrainedModel

from palimpsest.errors import InvalidArgument, Reason
from palimpsest.kv.calibration import Sensitivity
from palimpsest.kv.layout import KeyValues, from_cache, to_cache
from palimpsest.kv.rotary import Rotary
from palimpsest.progress import NullProgress, Progress


def measure(
    model: PreTrainedModel,
    contexts: Sequence[Sequence[int]],
    *,
    rotary: Rotary,
    continuation: int = 256,
    sinks: int = 4,
    seed: int = 0,
    progress: Progress | None = None,
) -> Sensitivity:
    """Measure a model's sensitivity on sample texts.

    Parameters
    ----------
    model
        A causal LM in float32, on any device; gradients of its weights are neither computed nor changed.
    contexts
        Token ids of each sample, longer than ``continuation``. A dozen texts of 1,024 tokens are enough.
    rotary
        How the model rotates its keys.
    continuation
        Tokens at the end of each context whose predictions count; the cache is that of the tokens before.
    sinks
        Leading tokens to leave out, as they are coded apart.
    seed
        Of the draws from the model's predictions.
    progress
        Called for each context.

    Raises
    ------
    InvalidArgument
        KV_CALIBRATION: a context is too short.
    """
    progress = progress or NullProgress()
    draw = torch.Generator().manual_seed(seed)
    forms: list[torch.Tensor] = []
    predicted = cached = 0
    for done, ids in enumerate(contexts):
        progress.step(done, len(contexts), "measuring sensitivity")
        if len(ids) <= continuation + sinks:
            raise InvalidArgument(
                Reason.KV_CALIBRATION, f"Contexts have to be longer than {continuation + sinks} tokens."
            )
        kv = _gradient(model, ids, len(ids) - continuation, draw)[sinks:]
        for component in (0, 1):
            rows = rotary.flatten(
                kv.part(component), kv.start, keys=component == 0
            )  # [tokens, layers * width]
            rows = rows.reshape(kv.tokens, kv.geometry.layers, -1).transpose(0, 1)  # [layers, tokens, width]
            form = (rows.transpose(1, 2) @ rows).double()  # [layers, width, width]
            if len(forms) <= component:
                forms.append(form)
            else:
                forms[component] += form
        predicted += continuation
        cached += kv.tokens
    tokens = cached / max(1, len(contexts))
    return Sensitivity(forms[0] / predicted / tokens, forms[1] / predicted / tokens, round(tokens))


def _gradient(model: PreTrainedModel, ids: Sequence[int], prefix: int, draw: torch.Generator) -> KeyValues:
    """Return the gradient, by the cache of the prefix, of the log-probabilities of tokens drawn from the model.

    The model may be on any device; the gradient, and the tokens it is of, are drawn and returned on the CPU.
    """
    batch = torch.tensor([list(ids)], device=model.device)  # [1, tokens]
    with torch.no_grad():
        cache = model(batch[:, :prefix], use_cache=True, logits_to_keep=1).past_key_values
    kv = from_cache(cache)
    keys, values = (part.detach().clone().requires_grad_(True) for part in (kv.keys, kv.values))
    with torch.enable_grad():
        cache = to_cache(KeyValues(keys, values), model.config)
        logits = model(batch[:, prefix:], past_key_values=cache).logits[0]  # [continuation, vocabulary]
        log_probabilities = logits.float().log_softmax(-1)
        drawn = torch.multinomial(log_probabilities.detach().exp().cpu(), 1, generator=draw)
        total = log_probabilities.gather(1, drawn.to(model.device)).sum()
        keys_gradient, values_gradient = torch.autograd.grad(total, (keys, values))
    return KeyValues(keys_gradient.cpu(), values_gradient.cpu())
