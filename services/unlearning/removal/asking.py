"""Attacks of a request that ask otherwise: questions and beginnings of documents, so that they fit the context."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from palimpsest.errors import FailedPrecondition, Reason
from palimpsest.progress import Progress
from services.unlearning.attacks.asking import Query, asking, few_shot, lower_cased, paraphrased
from services.unlearning.attacks.measuring import knowledge, sampled, scores_of
from services.unlearning.attacks.outcomes import Attack, Scores
from services.unlearning.attacks.recovery import KNOWLEDGE, VERBATIM
from services.unlearning.attacks.related import related
from services.unlearning.metrics import verbatim_memory
from services.unlearning.metrics.intervals import Bootstrap
from services.unlearning.metrics.items import Pair, Prompt, Template
from services.unlearning.removal.attack_plan import (
    FEW_SHOT,
    LOWER_CASE,
    PARAPHRASED,
    PREFIX_LOWER_CASE,
    PREFIXES,
    SAMPLING,
    shots_of,
)
from services.unlearning.removal.measuring import ANSWER, TRUTH, Items
from services.unlearning.removal.plan import ResolvedPlan

SHOTS = 4
"""Solved questions before one that is asked; fewer where the model's context has no room for them."""
_TOO_FEW = "Fewer than two items fit the model's context, or have what is asked for."


def asking_attack(
    name: str, plan: ResolvedPlan, asked: Items, tokenizer: Any, module: nn.Module, progress: Progress
) -> Attack:
    """Make one attack; arguments are those of :func:`services.unlearning.removal.attacking.attacks_of`.

    One that finds fewer than two items to ask about is a row that was not measured.
    """
    limit = plan.model.context_length or 1 << 20
    if name == SAMPLING:
        if len(asked.verbatim) < 2:
            return hindered(f"{name}/{plan.attacks.samples}", [VERBATIM.name])
        return sampled(
            tokenizer, module, asked.verbatim,
            max_new_tokens=TRUTH, samples=plan.attacks.samples, seed=plan.attacks.seed, progress=progress,
        )  # fmt: skip
    if name == PREFIX_LOWER_CASE or name in PREFIXES:
        if len(asked.verbatim) < 2:
            return hindered(name, [VERBATIM.name])
        prompts = [
            _lower_case(each, tokenizer, limit - TRUTH)
            if name == PREFIX_LOWER_CASE
            else _end(each, tokenizer, PREFIXES[name])
            for each in asked.verbatim
        ]
        return Attack(name, scores=_continued(prompts, tokenizer, progress), metrics=[VERBATIM.name])
    return _of_questions(name, plan, asked.questions, tokenizer, limit, progress)


def hindered(name: str, metrics: Sequence[str], message: str = "") -> Attack:
    """The attack that no model can be put through: every model's row says why, and the request goes on."""

    def scores(_: nn.Module) -> Any:
        raise FailedPrecondition(Reason.ATTACK_INVALID, message or _TOO_FEW)

    return Attack(name, scores=scores, metrics=metrics)


def _of_questions(
    name: str, plan: ResolvedPlan, pairs: Sequence[Pair], tokenizer: Any, limit: int, progress: Progress
) -> Attack:
    forget = plan.forget.source
    fits = _fitting(tokenizer, limit)
    queries = [Query(pair.id, pair.question, pair.answer, aliases=pair.aliases) for pair in pairs]
    measured = None
    if name == LOWER_CASE:
        lowered = lower_cased(queries)
        variants = [[new if fits(new) else old for old, new in zip(queries, lowered, strict=True)]]
    elif name == FEW_SHOT:
        shots = _shots(plan, queries)
        while shots and not all(map(fits, few_shot(queries, shots))):
            shots = shots[:-1]
        if not shots:
            return hindered(name, [KNOWLEDGE.name])
        variants = [few_shot(queries, shots)]
    else:
        assert name == PARAPHRASED
        reworded = [
            replace(each, paraphrases=_some_that_fit(each, forget.paraphrases.get(each.item, ()), fits))
            for each in queries
        ]
        having = [place for place, each in enumerate(reworded) if each.paraphrases]
        if len(having) < 2:
            return hindered(name, [KNOWLEDGE.name])
        measured, variants = {KNOWLEDGE.name: having}, paraphrased(reworded)
    if len(queries) < 2:
        return hindered(name, [KNOWLEDGE.name])
    ask = knowledge(tokenizer, max_new_tokens=ANSWER, progress=progress)
    return asking(name, ask, variants, [KNOWLEDGE], measured=measured)


def _some_that_fit(
    query: Query, paraphrases: Sequence[str], fits: Callable[[Query], bool]
) -> tuple[str, ...]:
    return tuple(each for each in paraphrases if fits(replace(query, text=each)))


def _shots(plan: ResolvedPlan, queries: Sequence[Query]) -> list[Query]:
    """Solved questions that give nothing away of those that are asked."""
    source = shots_of({field: each.source for field, each in plan.sets.items()})
    assert source is not None
    texts = {f"asked/{each.item}": f"{each.text}\n{each.truth}" for each in queries}
    offered = {f"shot/{pair.id}": pair for pair in source.questions[: 16 * SHOTS]}
    texts |= {name: f"{pair.question}\n{pair.answer}" for name, pair in offered.items()}
    told = related([name for name in texts if name.startswith("asked/")], texts)
    return [Query(name, pair.question, pair.answer) for name, pair in offered.items() if name not in told][
        :SHOTS
    ]


def _fitting(tokenizer: Any, limit: int) -> Callable[[Query], bool]:
    template = Template()

    def fits(query: Query) -> bool:
        pair = Pair(query.item, query.text, query.truth, examples=query.shots)
        return len(template.prompt_ids(pair, tokenizer)) + ANSWER <= limit

    return fits


def _continued(prompts: Sequence[Prompt], tokenizer: Any, progress: Progress) -> Scores:
    return scores_of(
        lambda module: verbatim_memory(
            module, tokenizer, prompts,
            max_new_tokens=TRUTH, bootstrap=Bootstrap(resamples=0), progress=progress,
        )
    )  # fmt: skip


def _end(prompt: Prompt, tokenizer: Any, share: float) -> Prompt:
    """The end of a prompt, so that what follows is the same; a token that begins every text stays where it is."""
    ids = prompt.prompt_ids(tokenizer)
    begin = ids[:1] if ids[:1] == (tokenizer.bos_token_id,) else ()
    rest = ids[len(begin) :]
    return replace(prompt, prompt=(*begin, *rest[len(rest) - max(1, round(share * len(rest))) :]))


def _lower_case(prompt: Prompt, tokenizer: Any, limit: int) -> Prompt:
    """The prompt in lower case, which may have more tokens: its end, if it no longer fits."""
    text = tokenizer.decode(prompt.prompt_ids(tokenizer), skip_special_tokens=True)
    return replace(prompt, prompt=tuple(tokenizer.encode(text.lower()))[-limit:])
