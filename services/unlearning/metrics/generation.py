"""Greedy continuation of many prompts at once.

A loop of its own rather than ``generate``: that takes settings that are not given from the model's generation config (a
repetition penalty, say), and a metric must not depend on it.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from palimpsest.errors import FailedPrecondition, InvalidArgument, Reason
from palimpsest.progress import NullProgress, Progress
from services.unlearning.metrics.passes import ROWS, accepts, device_of, reading, require_room


def greedy(
    module: nn.Module,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    eos_ids: Sequence[int],
    batch: int = ROWS,
    progress: Progress | None = None,
) -> list[tuple[int, ...]]:
    """Continue each prompt by the most probable tokens.

    Prompts of a batch are padded on the left, under the attention mask and with positions that count from the first
    real token, so that each is continued as it would be alone.

    Parameters
    ----------
    module
        A causal LM of transformers.
    prompts
        Token ids of each.
    max_new_tokens
        Most tokens of a continuation.
    eos_ids
        Tokens that end one; they are not part of it.
    batch
        Prompts of one pass.
    progress
        Asked before every pass whether to go on.

    Returns
    -------
    list
        New token ids of each prompt, in the order of the prompts.

    Raises
    ------
    InvalidArgument
        PROMPT_EMPTY; PROMPT_TOO_LONG.
    FailedPrecondition
        METRIC_NOT_FINITE: the model puts out NaN, of which some token is always the likeliest.
    """
    if not all(prompts):
        raise InvalidArgument(
            Reason.PROMPT_EMPTY, "A prompt without tokens cannot be continued; leave it out."
        )
    require_room(module, prompts, max_new_tokens)
    order = sorted(range(len(prompts)), key=lambda number: -len(prompts[number]))
    found: dict[int, tuple[int, ...]] = {}
    with reading(module):
        for first in range(0, len(order), batch):
            numbers = order[first : first + batch]
            new = _continue(
                module,
                [prompts[n] for n in numbers],
                max_new_tokens,
                set(eos_ids),
                progress or NullProgress(),
            )
            found.update(zip(numbers, new, strict=True))
    return [found[number] for number in range(len(prompts))]


def eos_ids_of(module: Any, tokenizer: Any) -> list[int]:
    """Tokens that end a text, by the tokenizer and the model's generation config."""
    of_model = getattr(getattr(module, "generation_config", None), "eos_token_id", None)
    listed = of_model if isinstance(of_model, list) else [of_model]
    return sorted({int(token) for token in (*listed, tokenizer.eos_token_id) if token is not None})


def require_finite(logits: torch.Tensor) -> None:
    """Refuse logits of tokens that are about to be chosen, if any is not a finite number.

    Raises
    ------
    FailedPrecondition
        METRIC_NOT_FINITE.
    """
    if not bool(torch.isfinite(logits).all()):
        message = "The model puts out numbers that are not finite, so that what it says is of no meaning."
        raise FailedPrecondition(Reason.METRIC_NOT_FINITE, message)


def _continue(
    module: nn.Module, prompts: Sequence[Sequence[int]], limit: int, ends: set[int], progress: Progress
) -> list[tuple[int, ...]]:
    longest = max(map(len, prompts))
    ids = torch.zeros(
        len(prompts), longest, dtype=torch.int64
    )  # [rows, tokens]; which id pads is of no account
    attention = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, longest - len(prompt) :] = torch.tensor(prompt)
        attention[row, longest - len(prompt) :] = 1
    device = device_of(module)
    ids, attention = ids.to(device), attention.to(device)
    optional: dict[str, Any] = {"logits_to_keep": 1} if accepts(module, "logits_to_keep") else {}
    positioned = accepts(module, "position_ids")
    new: list[list[int]] = [[] for _ in prompts]
    going = [True] * len(prompts)
    cache = None
    for _ in range(limit):
        progress.check()
        if positioned:
            optional["position_ids"] = (attention.cumsum(-1) - 1).clamp_min(0)[:, -ids.shape[1] :]
        output = module(
            input_ids=ids, attention_mask=attention, past_key_values=cache, use_cache=True, **optional
        )
        cache = output.past_key_values
        largest, chosen = output.logits[:, -1].max(-1)  # both [rows]
        require_finite(largest)
        for row, token in enumerate(chosen.tolist()):
            going[row] = going[row] and token not in ends
            if going[row]:
                new[row].append(token)
        if not any(going):
            break
        ids = chosen[:, None]
        attention = torch.cat([attention, attention.new_ones(len(prompts), 1)], -1)
    return [tuple(tokens) for tokens in new]
