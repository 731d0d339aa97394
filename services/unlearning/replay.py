"""Replay: what a model says by itself stands in for data that is to be kept and not at hand.

A retain set is a part of what a model has learnt. The rest is in its weights alone, and suffers from a removal unseen;
retraining without it loses it. A model that has learnt texts by heart recites some when it is let speak. It is given
the first tokens of texts of the retain set and sampled from, and of what it says the likeliest by the model's own
account is kept, which tells recitation from invention (pseudo-rehearsal: Robins 1995; likelihood as the sign of what is
memorised: Carlini et al. 2021, arXiv 2012.07805; the two together, and the filter, are ours).

Left out is whatever has a word, or four words in a row, that the forget set has and the retain set has not. That keeps
names out, and sentences. It does not keep a paraphrase out that has none of its own words: what a model says of the
forget set in the retain set's words is rehearsed too.
"""

import random
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from palimpsest.errors import InvalidArgument, Reason
from palimpsest.training.batches import Example
from palimpsest.training.order import derived_seed
from services.unlearning.metrics.generation import require_finite

ROWS = 128
"""Sequences that are sampled side by side."""
RUNS = (1, 4)
"""Words in a row by which a sequence is known as the forget set's."""


@dataclass(frozen=True)
class Replay:
    """How much is said, and how much of it is kept.

    Attributes
    ----------
    draws
        Sequences that are sampled.
    keep
        Most of them that are kept, the likeliest ones.
    tokens
        Longest sequence; one that has not ended by then is dropped.
    prompt
        Tokens of a retain text that a sequence begins with.

    Raises
    ------
    InvalidArgument
        INVALID_REQUEST: a number below 1, or no token beyond the prompt.
    """

    draws: int = 4000
    keep: int = 300
    tokens: int = 64
    prompt: int = 2

    def __post_init__(self) -> None:
        if min(self.draws, self.keep, self.prompt) < 1 or self.tokens <= self.prompt:
            message = (
                "A replay has at least one draw, keeps at least one, and says a token beyond its prompt."
            )
            raise InvalidArgument(Reason.INVALID_REQUEST, message)


def replayed(
    module: Any,
    retain: Sequence[Example],
    forget: Sequence[Example],
    decode: Callable[[Sequence[int]], str],
    settings: Replay,
    *,
    stop: Collection[int],
    seed: int = 0,
    check: Callable[[], None] = lambda: None,
) -> list[Example]:
    """Sample sequences from a model, and keep what it seems to know by heart and is not of the forget set.

    Parameters
    ----------
    module
        A causal LM of transformers, as it is before the removal.
    retain
        Texts to be kept; sequences begin like one of them, and none of them is returned.
    forget
        What is to be forgotten.
    decode
        Turns token ids into text.
    settings
        How much.
    stop
        Tokens that end a sequence; each sequence has the one that ended it.
    seed
        Of the draws: the same sequences each time, on the same number of threads.
    check
        Called before each pass over the model; may raise to stop.

    Returns
    -------
    list
        The likeliest first; every token counts but the prompt's first. Empty where the model says nothing of use.

    Raises
    ------
    FailedPrecondition
        METRIC_NOT_FINITE: there is no distribution to draw from.
    """
    beginnings = [tuple(each.ids[: settings.prompt]) for each in retain if len(each.ids) > settings.prompt]
    own = _own_runs((decode(each.ids) for each in forget), (decode(each.ids) for each in retain))
    draw, known = random.Random(derived_seed(seed, "replay")), {tuple(each.ids) for each in retain}
    likelihood: dict[tuple[int, ...], float] = {}
    for first in range(0, settings.draws if beginnings else 0, ROWS):
        prompts = [draw.choice(beginnings) for _ in range(min(ROWS, settings.draws - first))]
        generator = torch.Generator(_device(module)).manual_seed(derived_seed(seed, "replay", first))
        for ids, mean in _sampled(module, prompts, settings.tokens, generator, stop, check):
            if ids not in known and ids not in likelihood and not own & _runs(decode(ids)):
                likelihood[ids] = mean
    chosen = sorted(likelihood, key=lambda ids: (-likelihood[ids], ids))[: settings.keep]
    return [Example(ids, (True,) * len(ids), f"replay-{number}") for number, ids in enumerate(chosen)]


@torch.no_grad()
def _sampled(
    module: Any,
    prompts: Sequence[tuple[int, ...]],
    tokens: int,
    generator: torch.Generator,
    stop: Collection[int],
    check: Callable[[], None],
) -> list[tuple[tuple[int, ...], float]]:
    """Continue prompts of one length at temperature 1: those that end, and the mean log-likelihood of what is drawn."""
    device = _device(module)
    ids = torch.tensor(prompts, device=device)  # [rows, prompt]
    rows = [list(prompt) for prompt in prompts]
    totals = torch.zeros(len(prompts), dtype=torch.float64, device=device)
    going, ended, cache = [True] * len(prompts), [0] * len(prompts), None
    for number in range(tokens - len(prompts[0])):
        check()
        output = module(input_ids=ids, past_key_values=cache, use_cache=True)
        cache = output.past_key_values
        require_finite(output.logits[:, -1].amax(-1))
        logs = output.logits[:, -1].float().log_softmax(-1)  # [rows, vocabulary]
        ids = torch.multinomial(logs.exp(), 1, generator=generator)  # [rows, 1]
        totals += logs.gather(1, ids)[:, 0] * torch.tensor(going, device=device)
        for row, token in enumerate(ids[:, 0].tolist()):
            if going[row]:
                rows[row].append(token)
                if token in stop:
                    going[row], ended[row] = False, number + 1
        if not any(going):
            break
    found = zip(rows, totals.tolist(), ended, strict=True)
    return [(tuple(row), total / count) for row, total, count in found if count]


def _own_runs(forget: Iterable[str], retain: Iterable[str]) -> set[tuple[str, ...]]:
    """Runs of words that the forget set has and the retain set has not."""
    return _union(forget) - _union(retain)


def _union(texts: Iterable[str]) -> set[tuple[str, ...]]:
    return set().union(*(_runs(text) for text in texts))


def _runs(text: str) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+", text.casefold())
    return {tuple(words[at : at + n]) for n in RUNS for at in range(len(words) - n + 1)}


def _device(module: Any) -> torch.device:
    return next(module.parameters()).device
