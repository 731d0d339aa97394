"""Admission: whether a model can run a request, checked before the request is queued."""

from collections.abc import Sequence

from palimpsest.engine.requests import Request
from palimpsest.errors import InvalidArgument, Reason, ResourceExhausted
from palimpsest.lm.blocks import BLOCK
from palimpsest.lm.protocols import Model


def check_request(model: Model, request: Request) -> int:
    """Reject a request that can never run; return its cache blocks at full length.

    Parameters
    ----------
    model
        The model that would run it: vocabulary, context length and cache memory.
    request
        The request to check.

    Raises
    ------
    InvalidArgument
        No prompt, or none after the external prefix; ids outside the vocabulary; top_k larger than it; longer than the
        context; or settings that the strategy refuses.
    ResourceExhausted
        Larger than the whole cache memory.
    """
    prompt = len(request.ids)
    if prompt == 0:
        raise InvalidArgument(
            Reason.PROMPT_EMPTY, "The prompt has no token; send some text or at least one id."
        )
    if request.prefix is not None and request.prefix.tokens >= prompt:
        raise InvalidArgument(
            Reason.PROMPT_EMPTY,
            f"The prompt is empty: all {prompt} tokens come from the stored context. Add at least one prompt token.",
        )
    check_ids(model, request.ids)
    if request.sampling.top_k > model.limits.vocab_size:
        raise InvalidArgument.field(
            Reason.TOP_K_TOO_LARGE,
            "sampling.top_k",
            f"top_k is {request.sampling.top_k}; the vocabulary has {model.limits.vocab_size} tokens. Use 0 for all.",
        )
    _check_constraints(model, request)
    if any(not stop for stop in request.stop):
        raise InvalidArgument.field(Reason.STOP_EMPTY, "stop", "A stop string is empty; leave it out.")
    if prompt + request.max_tokens > model.limits.context_length:
        raise InvalidArgument(
            Reason.PROMPT_TOO_LONG,
            f"The prompt has {prompt} tokens and max_tokens is {request.max_tokens}, together more than the "
            f"model's {model.limits.context_length}; shorten the prompt or lower max_tokens. Nothing is cut off.",
            metadata={
                "prompt_tokens": prompt,
                "max_tokens": request.max_tokens,
                "context_length": model.limits.context_length,
            },
        )
    if request.strategy is not None:
        request.strategy.check(model, request)
    longest = -(-(prompt + request.max_tokens) // BLOCK)
    shared = prompt // BLOCK if model.pool is not None else 0
    sequences = request.n * (1 if request.strategy is None else request.strategy.width)
    blocks = longest + (sequences - 1) * (longest - shared)
    needed, held = blocks * model.limits.block_bytes, model.limits.cache_blocks * model.limits.block_bytes
    if needed > held:
        raise ResourceExhausted(
            Reason.ENGINE_MEMORY_FULL,
            f"The request may need {needed} bytes of cache, and the engine has {held}. Lower n (or k) or max_tokens, "
            "shorten the prompt, or raise PALIMPSEST_ENGINE_CACHE_BYTES.",
            metadata={"n": request.n, "prompt_tokens": prompt, "max_tokens": request.max_tokens},
        )
    return blocks


def _check_constraints(model: Model, request: Request) -> None:
    """Check tokens that are biased, forbidden or end a sequence, and that the strategy can honour them.

    Raises
    ------
    InvalidArgument
        TOKEN_ID_OUT_OF_RANGE, MIN_TOKENS_TOO_LARGE or SETTING_UNSUPPORTED.
    """
    sampling = request.sampling
    named = [token for token, _ in sampling.logit_bias] + [t for word in request.bad_words for t in word]
    if named or request.stop_ids:
        check_ids(model, [*named, *request.stop_ids])
    if request.min_tokens > request.max_tokens:
        raise InvalidArgument.field(
            Reason.MIN_TOKENS_TOO_LARGE,
            "min_tokens",
            f"min_tokens is {request.min_tokens}, more than max_tokens, {request.max_tokens}; lower it.",
        )
    given = {
        "min_tokens": request.min_tokens,
        "stop_token_ids": request.stop_ids,
        "bad_words": request.bad_words,
        "structured": request.grammar,
        "sampling": sampling.adjusts,
    }
    if request.strategy is not None and (name := next((name for name in given if given[name]), None)):
        what = "penalties and logit_bias" if name == "sampling" else name
        raise InvalidArgument.field(
            Reason.SETTING_UNSUPPORTED, name, f"This way of generating cannot honour {what}; leave it out."
        )
    if request.grammar is not None and request.ignore_eos:
        raise InvalidArgument.field(
            Reason.SETTING_UNSUPPORTED,
            "ignore_eos",
            "A structured text ends with the end-of-sequence token; leave ignore_eos out.",
        )


def check_ids(model: Model, ids: Sequence[int]) -> None:
    """Check that all ids, of which there is at least one, are in the vocabulary.

    Raises
    ------
    InvalidArgument
        TOKEN_ID_OUT_OF_RANGE, with the worst of them.
    """
    worst = max(ids) if min(ids) >= 0 else min(ids)
    if not 0 <= worst < model.limits.vocab_size:
        raise InvalidArgument(
            Reason.TOKEN_ID_OUT_OF_RANGE,
            f"Token id {worst} is outside the vocabulary; ids go from 0 to {model.limits.vocab_size - 1}.",
            metadata={"id": worst, "vocab_size": model.limits.vocab_size},
        )


def check_task(model: Model, blocks: int, longest: int) -> None:
    """Check that a task can ever run, with so many blocks and its longest sequence of so many tokens.

    Raises
    ------
    InvalidArgument
        Longer than the context.
    ResourceExhausted
        More than the whole cache memory.
    """
    if longest > model.limits.context_length:
        raise InvalidArgument(
            Reason.PROMPT_TOO_LONG,
            f"A text has {longest} tokens, the model's context {model.limits.context_length}; send shorter ones.",
            metadata={"prompt_tokens": longest, "context_length": model.limits.context_length},
        )
    needed, held = blocks * model.limits.block_bytes, model.limits.cache_blocks * model.limits.block_bytes
    if needed > held:
        raise ResourceExhausted(
            Reason.ENGINE_MEMORY_FULL,
            f"The work needs {needed} bytes of cache, and the engine has {held}. Send less at once, or raise "
            "PALIMPSEST_ENGINE_CACHE_BYTES.",
        )
