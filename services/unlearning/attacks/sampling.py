"""Sampling as an attack: what greedy decoding hides may be said in one of several samples.

Every prompt is continued a number of times at temperature 1, from the whole distribution, and an item's score is that
of its best continuation. A model that never knew gets luckier with more samples too, which its gain tells.
"""

from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from palimpsest.errors import InvalidArgument, Reason
from palimpsest.training.order import derived_seed
from services.unlearning.attacks.outcomes import Attack, Scores
from services.unlearning.metrics.generation import require_finite

SAMPLES = 16


def sampling(
    prompts: Sequence[Sequence[int]],
    score: Callable[[int, list[int]], float],
    metric: str,
    *,
    tokens: int,
    samples: int = SAMPLES,
    temperature: float = 1.0,
    seed: int = 0,
    stop: Collection[int] = (),
    check: Callable[[], None] = lambda: None,
) -> Attack:
    """Return the attack that scores the best of several sampled continuations.

    Parameters
    ----------
    prompts
        Token ids of each item's prompt, in the order of the metric's items.
    score
        Scores a continuation (token ids without the token that ends it) of the item at a position; higher knows more.
    metric
        What the score is called.
    tokens
        Longest continuation.
    samples
        Continuations an item.
    temperature, seed, stop
        As in :func:`sample`; each item has a seed of its own, so that its samples do not depend on the others.
    check
        Called before each item; may raise to stop.

    Raises
    ------
    InvalidArgument
        ATTACK_INVALID: no samples, no tokens, an empty prompt, or a temperature that is not positive.
    """
    if samples < 1 or tokens < 1 or temperature <= 0 or not all(len(prompt) for prompt in prompts):
        message = (
            "Sampling needs prompts with tokens, at least one sample of one token, and a temperature above 0."
        )
        raise InvalidArgument(Reason.ATTACK_INVALID, message)

    def best(module: nn.Module, position: int) -> float:
        check()
        found = sample(
            module,
            prompts[position],
            samples=samples,
            tokens=tokens,
            temperature=temperature,
            seed=derived_seed(seed, "sampling", position),
            stop=stop,
        )
        return max(score(position, continuation) for continuation in found)

    def scores(module: nn.Module) -> dict[str, NDArray[np.float64]]:
        return {metric: np.array([best(module, position) for position in range(len(prompts))])}

    made: Scores = scores
    return Attack(f"sampling/{samples}", scores=made, allowed=5.0, metrics=[metric])


@torch.no_grad()
def sample(
    module: Any,
    prompt: Sequence[int],
    *,
    samples: int,
    tokens: int,
    temperature: float = 1.0,
    seed: int = 0,
    stop: Collection[int] = (),
) -> list[list[int]]:
    """Sample continuations of one prompt, which is read once.

    Parameters
    ----------
    module
        A causal LM of transformers.
    prompt
        Token ids, at least one.
    samples
        How many continuations.
    tokens
        Longest continuation.
    temperature
        Divides the logits; nothing else changes the distribution.
    seed
        Of the draws.
    stop
        Tokens that end a continuation and are not part of it.

    Returns
    -------
    list of list of int
        Token ids of each continuation.

    Raises
    ------
    FailedPrecondition
        METRIC_NOT_FINITE: there is no distribution to draw from.
    """
    device = next(module.parameters()).device
    generator = torch.Generator(device).manual_seed(seed)
    ids = torch.tensor([list(prompt)], device=device)
    output = module(input_ids=ids, use_cache=True)
    cache, logits = output.past_key_values, output.logits[:, -1].expand(samples, -1)
    cache.batch_repeat_interleave(samples)
    rows: list[list[int]] = [[] for _ in range(samples)]
    going = [True] * samples
    for number in range(tokens):
        require_finite(logits.amax(-1))
        probabilities = (logits.float() / temperature).softmax(-1)
        drawn = torch.multinomial(probabilities, 1, generator=generator)  # [samples, 1]
        for row, token in enumerate(drawn[:, 0].tolist()):
            going[row] = going[row] and token not in stop
            if going[row]:
                rows[row].append(token)
        if not any(going) or number + 1 == tokens:
            break
        output = module(input_ids=drawn, past_key_values=cache, use_cache=True)
        cache, logits = output.past_key_values, output.logits[:, -1]
    return rows
