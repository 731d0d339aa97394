"""The metrics of a removal in the form that attacks take: scores of a model, of prompts, of sampled continuations."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from palimpsest.progress import Progress
from services.unlearning.attacks.asking import Asked, Query
from services.unlearning.attacks.outcomes import Attack, Scores
from services.unlearning.attacks.sampling import SAMPLES, sampling
from services.unlearning.metrics import (
    Bootstrap,
    Pair,
    Prompt,
    Score,
    Template,
    knowledge_memory,
    verbatim_memory,
)
from services.unlearning.metrics.generation import eos_ids_of
from services.unlearning.metrics.rouge import convention_named, rouge_l

_NO_INTERVAL = Bootstrap(resamples=0)


def scores_of(*measures: Callable[[nn.Module], Score]) -> Scores:
    """Return the scores of items by several metrics, each named as the metric is.

    Parameters
    ----------
    measures
        Each measures one metric, such as ``lambda module: verbatim_memory(module, tokenizer, prompts)``.
    """

    def scores(module: nn.Module) -> dict[str, NDArray[np.float64]]:
        found = (measure(module) for measure in measures)
        return {score.metric: np.array([item.value for item in score.items]) for score in found}

    return scores


def verbatim(
    tokenizer: Any, *, convention: str = "muse", max_new_tokens: int = 128, progress: Progress | None = None
) -> Asked:
    """Ask for continuations, by :func:`services.unlearning.metrics.verbatim_memory`, whose options these are."""

    def asked(queries: Sequence[Query]) -> Scores:
        prompts = [Prompt(query.item, query.text, query.truth) for query in queries]
        return scores_of(
            lambda module: verbatim_memory(
                module,
                tokenizer,
                prompts,
                convention=convention,
                max_new_tokens=max_new_tokens,
                bootstrap=_NO_INTERVAL,
                progress=progress,
            )
        )

    return asked


def knowledge(
    tokenizer: Any,
    *,
    template: Template | None = None,
    convention: str = "muse",
    max_new_tokens: int = 32,
    progress: Progress | None = None,
) -> Asked:
    """Ask for answers, by :func:`services.unlearning.metrics.knowledge_memory`, whose options these are."""

    def asked(queries: Sequence[Query]) -> Scores:
        pairs = [Pair(each.item, each.text, each.truth, each.aliases, each.shots) for each in queries]
        return scores_of(
            lambda module: knowledge_memory(
                module,
                tokenizer,
                pairs,
                template=template,
                convention=convention,
                max_new_tokens=max_new_tokens,
                bootstrap=_NO_INTERVAL,
                progress=progress,
            )
        )

    return asked


def sampled_continuations(
    tokenizer: Any,
    module: nn.Module,
    prefixes: Sequence[Query],
    *,
    convention: str = "muse",
    max_new_tokens: int = 128,
    samples: int = SAMPLES,
    seed: int = 0,
) -> Attack:
    """Return the attack that scores the best of several sampled continuations as ``verbmem`` does the likeliest.

    Parameters
    ----------
    tokenizer, module
        Of any of the models to be attacked: they end texts alike.
    prefixes
        In the order of the items of ``verbmem``.
    convention, max_new_tokens
        As of the metric.
    samples, seed
        As in :func:`services.unlearning.attacks.sampling.sampling`.
    """
    prompts = [Prompt(query.item, query.text, query.truth) for query in prefixes]
    return sampled(
        tokenizer, module, prompts,
        convention=convention, max_new_tokens=max_new_tokens, samples=samples, seed=seed,
    )  # fmt: skip


def sampled(
    tokenizer: Any,
    module: nn.Module,
    prompts: Sequence[Prompt],
    *,
    convention: str = "muse",
    max_new_tokens: int = 128,
    samples: int = SAMPLES,
    seed: int = 0,
    progress: Progress | None = None,
) -> Attack:
    """Return the attack of :func:`sampled_continuations` on prompts as the metric has them.

    Parameters
    ----------
    tokenizer, module, convention, max_new_tokens, samples, seed
        As there.
    prompts
        In the order of the items of ``verbmem``.
    progress
        Asked before every item whether to go on.
    """
    truths = [prompt.truth_text(tokenizer, max_new_tokens) for prompt in prompts]
    rouge = convention_named(convention)

    def score(position: int, ids: list[int]) -> float:
        return 100.0 * rouge_l([truths[position]], tokenizer.decode(ids, skip_special_tokens=True), rouge)

    return sampling(
        [prompt.prompt_ids(tokenizer) for prompt in prompts],
        score,
        "verbmem",
        tokens=max_new_tokens,
        samples=samples,
        seed=seed,
        stop=eos_ids_of(module, tokenizer),
        check=progress.check if progress else lambda: None,
    )
