"""MUSE's four measures of a model: VerbMem, KnowMem, UtilityPres and PrivLeak (Shi et al. 2024, section 3)."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from palimpsest.errors import InvalidArgument, Reason
from palimpsest.progress import Progress
from services.unlearning.metrics.generation import eos_ids_of, greedy
from services.unlearning.metrics.intervals import Bootstrap, Weights
from services.unlearning.metrics.items import Pair, Prompt, Template, require_items
from services.unlearning.metrics.membership import Membership, auc, item_values, weighted_auc, wins_of
from services.unlearning.metrics.rouge import convention_named, rouge_l
from services.unlearning.metrics.scores import Definition, Score, mean_score

VERBMEM = Definition("verbmem", 1, "percent", "lower")
"""Mean ROUGE-L between the greedy and the true continuation of forgotten documents."""
KNOWMEM = Definition("knowmem", 1, "percent", "lower")
"""Mean ROUGE-L between given and true answers about the forget set."""
UTILITY = Definition("utility", 1, "percent", "higher")
"""The same about what must be kept."""
PRIVLEAK = Definition("privleak", 1, "percent", "target", target=0.0)
"""Relative distance of the AUC from the retrained model's: below 0 the forget set still looks familiar, above 0 it
looks stranger than text never seen."""

RETRAIN_AUC = {"news": 0.4772, "books": 0.5393}
"""Min-40% AUCs of MUSE's own retrained models on its two corpora: for comparison with its tables, and for nothing else.
Another model or corpus needs the AUC of its own retrained model."""


def verbatim_memory(
    module: nn.Module,
    tokenizer: Any,
    prompts: Sequence[Prompt],
    *,
    convention: str = "muse",
    max_new_tokens: int = 128,
    bootstrap: Bootstrap | None = None,
    progress: Progress | None = None,
) -> Score:
    """VerbMem: how much of the true continuation a model recites (equation 1).

    Parameters
    ----------
    module, tokenizer
        The model.
    prompts
        Beginnings of forgotten documents and how they go on; of a truth, the first ``max_new_tokens`` tokens count.
    convention
        Whose ROUGE-L; see :data:`services.unlearning.metrics.rouge.CONVENTIONS`.
    max_new_tokens
        Tokens of a continuation.
    bootstrap
        How the interval is made; None for the usual one.
    progress
        Asked before every pass whether to go on.

    Raises
    ------
    InvalidArgument
        METRIC_ITEMS_INVALID, METRIC_CONVENTION_UNKNOWN, PROMPT_EMPTY, PROMPT_TOO_LONG.
    """
    require_items(prompts, "prompts")
    rouge = convention_named(convention)
    new = greedy(
        module,
        [prompt.prompt_ids(tokenizer) for prompt in prompts],
        max_new_tokens=max_new_tokens,
        eos_ids=eos_ids_of(module, tokenizer),
        progress=progress,
    )
    values = {}
    for prompt, ids in zip(prompts, new, strict=True):
        output = tokenizer.decode(ids, skip_special_tokens=True)
        values[prompt.id] = 100 * rouge_l([prompt.truth_text(tokenizer, max_new_tokens)], output, rouge)
    return mean_score(VERBMEM, values, bootstrap, convention)


def knowledge_memory(
    module: nn.Module,
    tokenizer: Any,
    pairs: Sequence[Pair],
    *,
    template: Template | None = None,
    convention: str = "muse",
    max_new_tokens: int = 32,
    definition: Definition = KNOWMEM,
    bootstrap: Bootstrap | None = None,
    progress: Progress | None = None,
) -> Score:
    """KnowMem: how much of the true answers a model gives (equation 2).

    Parameters
    ----------
    module, tokenizer
        The model.
    pairs
        Questions about the forget set; an alias counts as much as the answer.
    template
        How they are put; None for the usual one.
    max_new_tokens
        Tokens of an answer.
    definition
        Which of the two metrics it is.
    convention, bootstrap, progress
        As in :func:`verbatim_memory`; the errors are the same.
    """
    values = answer_rouge(module, tokenizer, pairs, template, convention, max_new_tokens, progress)
    return mean_score(
        definition, {name: 100 * value for name, value in values.items()}, bootstrap, convention
    )


def utility(module: nn.Module, tokenizer: Any, pairs: Sequence[Pair], **options: Any) -> Score:
    """UtilityPres: :func:`knowledge_memory` of questions about what must be kept, which no training step has seen."""
    return knowledge_memory(module, tokenizer, pairs, definition=UTILITY, **options)


def answer_rouge(
    module: nn.Module,
    tokenizer: Any,
    pairs: Sequence[Pair],
    template: Template | None,
    convention: str,
    max_new_tokens: int,
    progress: Progress | None,
) -> Mapping[str, float]:
    """ROUGE-L, 0 to 1, of the greedy answer to each question, by id."""
    require_items(pairs, "questions")
    rouge, template = convention_named(convention), template or Template()
    new = greedy(
        module,
        [template.prompt_ids(pair, tokenizer) for pair in pairs],
        max_new_tokens=max_new_tokens,
        eos_ids=eos_ids_of(module, tokenizer),
        progress=progress,
    )
    values = {}
    for pair, ids in zip(pairs, new, strict=True):
        output = template.cut(tokenizer.decode(ids, skip_special_tokens=True))
        values[pair.id] = rouge_l([pair.answer, *pair.aliases], output, rouge)
    return values


def privacy_leak(
    unlearned: Membership, retrained: Membership | float, bootstrap: Bootstrap | None = None
) -> Score:
    """PrivLeak, in percent: (AUC of the unlearned model - AUC of the retrained) / AUC of the retrained (equation 3).

    Parameters
    ----------
    unlearned
        Numbers of an attack on the model; MUSE's is "min_k" with k = 0.4.
    retrained
        The same attack on the model that never saw the forget set, over the same texts, which are then resampled
        together; or its AUC in MUSE's orientation.
    bootstrap
        How the interval is made; None for the usual one.

    Raises
    ------
    InvalidArgument
        METRIC_ITEMS_INVALID: another attack or other texts, or an AUC that is not within (0, 1].
    """
    wins = wins_of(unlearned)
    if isinstance(retrained, Membership):
        _require_same(unlearned, retrained)
        base = _auc(retrained)
        base_wins = wins_of(retrained)
    else:
        base, base_wins = retrained, None
    if not 0 < base <= 1:
        message = (
            f"PrivLeak is relative to the retrained model's AUC, which is above 0 and at most 1, not {base}."
        )
        raise InvalidArgument(Reason.METRIC_ITEMS_INVALID, message)

    def resampled(forget: Weights, holdout: Weights) -> Any:
        of_base = base if base_wins is None else weighted_auc(base_wins, forget, holdout).clip(1e-9)
        return 100 * (weighted_auc(wins, forget, holdout) / of_base - 1)

    return Score(
        PRIVLEAK,
        100 * (_auc(unlearned) - base) / base,
        sum(wins.shape),
        (bootstrap or Bootstrap()).interval(resampled, wins.shape),
        unlearned.attack,
        item_values(unlearned),
    )


def _auc(scores: Membership) -> float:
    return auc(list(scores.forget.values()), list(scores.holdout.values()))


def _require_same(unlearned: Membership, retrained: Membership) -> None:
    same = unlearned.attack == retrained.attack and all(
        list(a) == list(b)
        for a, b in ((unlearned.forget, retrained.forget), (unlearned.holdout, retrained.holdout))
    )
    if not same:
        message = (
            "PrivLeak compares two models by one attack on the same texts in the same order. Measure both so."
        )
        raise InvalidArgument(Reason.METRIC_ITEMS_INVALID, message)
