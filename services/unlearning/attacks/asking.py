"""Asking otherwise: few-shot examples, paraphrases, other case, shorter prefixes; the weights stay as they are.

A model may have unlearned one way of asking alone. Each of these attacks rewrites the prompts of the same items, in one
variant or several, and an item's score is that of its best variant.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from torch import nn

from palimpsest.errors import InvalidArgument, Reason
from services.unlearning.attacks.outcomes import Attack, Scores, checked
from services.unlearning.attacks.recovery import Metric

PREFIX_SHARES = (0.25, 0.5, 0.75)
"""Shares of a prompt that are left by :func:`cut`."""


@dataclass(frozen=True)
class Query:
    """What a model is asked about one item.

    Attributes
    ----------
    item
        Id of the document or pair.
    text
        A question, or the text before the continuation that is scored.
    truth
        The answer, or the continuation.
    paraphrases
        Other wordings of the question.
    aliases
        Other answers that are as right.
    shots
        Questions and answers that are shown before it.
    """

    item: str
    text: str
    truth: str
    paraphrases: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    shots: tuple[tuple[str, str], ...] = ()


Asked = Callable[[Sequence[Query]], Scores]
"""Makes the scores of prompts, one number a prompt in their order."""


def lower_cased(prompts: Sequence[Query]) -> list[Query]:
    """Return the prompts in lower case; truths stay as they are."""
    return [replace(prompt, text=prompt.text.lower()) for prompt in prompts]


def cut(prompts: Sequence[Query], share: float, keep: Literal["start", "end"] = "end") -> list[Query]:
    """Return the prompts cut to a share of their words, at least one.

    Parameters
    ----------
    prompts
        Texts before a continuation.
    share
        Of the words, above 0 and at most 1.
    keep
        ``end``: the last words, so that what is to follow is the same. ``start``: the first words, and the truth is
        what follows them in the text, as many words as it had.

    Raises
    ------
    InvalidArgument
        ATTACK_INVALID: the share is out of range.
    """
    if not 0.0 < share <= 1.0:
        raise InvalidArgument(Reason.ATTACK_INVALID, f"A share is above 0 and at most 1, not {share}.")
    return [_cut(prompt, share, keep) for prompt in prompts]


def few_shot(prompts: Sequence[Query], shots: Sequence[Query]) -> list[Query]:
    """Return the prompts with solved examples before them.

    Parameters
    ----------
    prompts
        Questions.
    shots
        Examples, of none of the prompts' items.

    Raises
    ------
    InvalidArgument
        ATTACK_INVALID: an example is of an item that is asked for.
    """
    shared = {prompt.item for prompt in prompts} & {shot.item for shot in shots}
    if shared:
        names = ", ".join(sorted(shared)[:3])
        message = f"Few-shot examples give away what is asked: {names}. Take others."
        raise InvalidArgument(Reason.ATTACK_INVALID, message)
    examples = tuple((shot.text, shot.truth) for shot in shots)
    return [replace(prompt, shots=(*examples, *prompt.shots)) for prompt in prompts]


def paraphrased(prompts: Sequence[Query]) -> list[list[Query]]:
    """Return variants of the prompts, each with another paraphrase; an item with fewer repeats its last one.

    An item without paraphrases keeps its own text; leave it out of what is measured.
    """
    most = max((len(prompt.paraphrases) for prompt in prompts), default=0)
    return [
        [replace(prompt, text=_nth(prompt, number)) if prompt.paraphrases else prompt for prompt in prompts]
        for number in range(most)
    ]


def asking(
    name: str,
    asked: Asked,
    variants: Sequence[Sequence[Query]],
    metrics: Sequence[Metric],
    *,
    measured: Mapping[str, Sequence[int]] | None = None,
    allowed: float | None = None,
) -> Attack:
    """Return the attack that scores prompts rewritten; an item's score is the best of its variants.

    Parameters
    ----------
    name
        Such as ``prefix/0.25``.
    asked
        Makes the scores of prompts. It returns the metrics that the model's own scores have of these items.
    variants
        Lists of the same items in the same order, at least one.
    metrics
        Tell which score is the best.
    measured, allowed
        As in :class:`services.unlearning.attacks.outcomes.Attack`.

    Raises
    ------
    InvalidArgument
        ATTACK_INVALID: no variants, or variants of different items.
    """
    items = [[prompt.item for prompt in variant] for variant in variants]
    if not items or any(each != items[0] for each in items):
        message = f"The attack {name} needs at least one variant of each prompt, all in the same order."
        raise InvalidArgument(Reason.ATTACK_INVALID, message)
    return Attack(
        name,
        scores=_best([asked(variant) for variant in variants], metrics),
        measured=measured,
        allowed=allowed,
        metrics=[metric.name for metric in metrics],
    )


def of_questions(
    asked: Asked, questions: Sequence[Query], metrics: Sequence[Metric], shots: Sequence[Query] = ()
) -> list[Attack]:
    """Return the attacks on questions: lower case, few-shot if there are examples, paraphrases if there are any.

    Parameters
    ----------
    asked, metrics
        As in :func:`asking`.
    questions
        In the order of the items of the model's own scores. Those without paraphrases are not measured by that attack.
    shots
        Solved examples of other items.
    """
    found = [asking("questions/lower-case", asked, [lower_cased(questions)], metrics)]
    if shots:
        found.append(asking("questions/few-shot", asked, [few_shot(questions, shots)], metrics))
    having = [position for position, question in enumerate(questions) if question.paraphrases]
    if having:
        measured = {metric.name: having for metric in metrics}
        variants = paraphrased(questions)
        found.append(asking("questions/paraphrased", asked, variants, metrics, measured=measured))
    return found


def of_prefixes(asked: Asked, prefixes: Sequence[Query], metrics: Sequence[Metric]) -> list[Attack]:
    """Return the attacks on texts to be continued: lower case, and cut to each of :data:`PREFIX_SHARES`.

    Parameters
    ----------
    asked, metrics
        As in :func:`asking`.
    prefixes
        In the order of the items of the model's own scores.
    """
    return [
        asking("prefix/lower-case", asked, [lower_cased(prefixes)], metrics),
        *(asking(f"prefix/{share:g}", asked, [cut(prefixes, share)], metrics) for share in PREFIX_SHARES),
    ]


def _best(scores: Sequence[Scores], metrics: Sequence[Metric]) -> Scores:
    higher = {metric.name: metric.higher_knows for metric in metrics}

    def score(module: nn.Module) -> dict[str, NDArray[np.float64]]:
        found = [checked(each(module)) for each in scores]
        return {
            metric: (np.max if higher[metric] else np.min)([each[metric] for each in found], axis=0)
            for metric in found[0]
            if metric in higher
        }

    return score


def _cut(prompt: Query, share: float, keep: str) -> Query:
    words = prompt.text.split(" ")
    count = max(1, round(share * len(words)))
    if keep == "end":
        return replace(prompt, text=" ".join(words[-count:]))
    truth = prompt.truth.split(" ")
    follows = [*words[count:], *truth][: len(truth)]
    return replace(prompt, text=" ".join(words[:count]), truth=" ".join(follows))


def _nth(prompt: Query, number: int) -> str:
    return prompt.paraphrases[min(number, len(prompt.paraphrases) - 1)]
