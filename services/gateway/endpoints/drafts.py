"""The extension ``drafts`` of completions: several short continuations of one prompt, best first, as the choices."""

from typing import Any

from palimpsest.client.aio.decoding import AsyncDecoding
from palimpsest.client.drafts import Draft
from services.gateway.bodies import Body
from services.gateway.errors import bad, unsupported
from services.gateway.text.annotations import source_of
from services.gateway.text.fields import TextFields
from services.gateway.text.prompts import Prompt

_TAKEN = {
    "model", "prompt", "max_tokens", "stop", "temperature", "top_p", "top_k", "min_p", "seed", "ignore_eos",
    "cache_salt", "corpora", "nest", "drafts", "user", "metadata", "safety_identifier", "prompt_cache_key",
    "service_tier",
}  # fmt: skip


class DraftFields(Body):
    """As in ``client.decoding.drafts``."""

    k: int = 3
    strategy: str = "auto"
    ngrams: str | None = None
    heal: bool = False
    stop_at: str | None = None


def check_drafts(body: TextFields, drafts: DraftFields) -> None:
    """Refuse what drafts cannot keep to.

    Raises
    ------
    ApiError
        400: a field that is set and has no meaning for drafts.
    """
    if drafts.k < 1:
        raise bad("drafts.k", f"k is {drafts.k}; it has to be at least 1.")
    neutral = {name: field.default for name, field in type(body).model_fields.items()}
    for name in sorted(body.model_fields_set - _TAKEN):
        if getattr(body, name) != neutral[name]:
            raise unsupported(name, f"{name} does not go with drafts; leave it out.")


async def drafted(
    room: AsyncDecoding, prompts: list[Prompt], body: TextFields, head: dict[str, Any]
) -> dict[str, Any]:
    """The whole answer; ``logprob`` of a choice is that of all its tokens, null where it was not scored on its own.

    Parameters
    ----------
    room
        Of the caller.
    prompts
        One.
    body
        Its sampling is greedy unless the request gives a temperature: a search needs none.
    head
        Id, model and time of the answer.

    Raises
    ------
    ApiError
        400: several prompts, or a setting that does not exist.
    """
    if len(prompts) != 1:
        raise unsupported("prompt", "drafts takes one prompt.")
    asked: DraftFields = body.drafts  # type: ignore[attr-defined]
    sampling = body.sampling()
    if "temperature" not in body.model_fields_set:
        del sampling["temperature"]
    stop = [body.stop] if isinstance(body.stop, str) else body.stop
    try:
        drafting = room.drafts(
            model=head["model"],
            **prompts[0].fields,
            k=asked.k,
            strategy=asked.strategy,
            ngrams=asked.ngrams,
            heal=asked.heal,
            stop_at=asked.stop_at,
            streaming="final_only",
            max_tokens=body.max_tokens,  # type: ignore[attr-defined]
            corpora=body.corpora or (),
            nest=body.nest,
            sampling=sampling,
            stop=stop,
            ignore_eos=body.ignore_eos,
            cache_salt=body.cache_salt,
        )
    except (TypeError, ValueError) as error:
        raise bad("drafts", str(error)) from None
    async with drafting:
        found = await drafting.result()
    started = drafting.started
    prompt = started.prompt_tokens if started is not None else 0
    generated = sum(len(draft.token_ids) for draft in found)
    usage = {"prompt_tokens": prompt, "completion_tokens": generated, "total_tokens": prompt + generated}
    return {**head, "choices": [_choice(at, draft) for at, draft in enumerate(found)], "usage": usage}


def _choice(index: int, draft: Draft) -> dict[str, Any]:
    made = {
        "index": index,
        "text": draft.text,
        "logprobs": None,
        "finish_reason": "length" if draft.reason == "length" else "stop",
        "stop_reason": draft.stop or None,
        "logprob": draft.logprob,
    }
    if draft.sources:
        made["sources"] = [source_of(source) for source in draft.sources]
    return made
