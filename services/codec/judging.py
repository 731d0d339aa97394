"""Measures what coded chunks cost while their context is prefilled: the model reads on from them, and is compared.

For each chunk the exact cache up to its start is continued with each decoded form in turn, and the model reads two
short texts after it: what follows in the context, and a question. The divergence of its predictions from those after
the exact chunk is the loss; what is told is twice the larger mean, as another continuation may be hit harder.
"""

from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from palimpsest.engine import Engine
from palimpsest.errors import PalimpsestError, Reason, ResourceExhausted
from palimpsest.kv import KeyValues
from palimpsest.kv.promises import Coded
from palimpsest.lm.blocks import BLOCK
from palimpsest.lm.forward import Cache, SequenceInput

if TYPE_CHECKING:
    from palimpsest.engine.tasks import TaskSteps
    from palimpsest.lm.protocols import Model

FOLLOWING = 32
"""Tokens of the context after a chunk that are read."""
QUESTION = "\n\nQuestion: What is the text above about?\nAnswer: The text"
LEAST = 16
"""Tokens that are read at least."""
MARGIN = 2.0
"""What is told, over what was measured."""
FLOOR = 1e-4
"""Told at least of whatever is not exact, in nats a token: differences of predictions below are rounding."""


class _Work(NamedTuple):
    """A chunk to judge; ``forms`` may be empty, where its exact keys and values alone are wanted for what follows."""

    kv: KeyValues
    forms: Sequence[KeyValues]
    last: bool
    losses: "Future[list[float]]"


class Judge:
    """Judges the chunks of one context, in order; a task of the engine that holds the exact cache so far.

    Parameters
    ----------
    engine
        Runs the model. Its cache takes the context a second time.
    ids
        Of the whole context.
    question
        Token ids of ``QUESTION``.
    chunk_tokens
        Of the longest chunk.
    check
        Called while waiting; raises to stop.

    Raises
    ------
    ResourceExhausted, Unavailable
        The engine's cache cannot hold the context twice, or the engine has ended.
    """

    def __init__(
        self,
        engine: Engine,
        ids: Sequence[int],
        question: Sequence[int],
        chunk_tokens: int,
        check: Callable[[], object],
    ) -> None:
        self._ids, self._question, self._check = ids, list(question), check
        self._limit = engine.model.limits.context_length
        self._asked: Future[_Work] = Future()
        whole, limits = -(-len(ids) // BLOCK), engine.model.limits
        blocks = whole + -(-(chunk_tokens + FOLLOWING + len(question)) // BLOCK) + 4
        if blocks + whole > limits.cache_blocks:
            raise ResourceExhausted(
                Reason.ENGINE_MEMORY_FULL,
                f"Judging a context of {len(ids)} tokens takes {blocks + whole} blocks of cache, and there are "
                f"{limits.cache_blocks}; raise PALIMPSEST_ENGINE_CACHE_BYTES.",
            )
        longest = min(self._limit, len(ids) + max(FOLLOWING, len(question)))
        self._task = engine.submit_task(self._steps(engine.model), blocks, longest)

    def __call__(self, kv: KeyValues, forms: Sequence[Coded]) -> list[float]:
        """Bound the loss of each form of the chunk that comes next, in nats a token: a ``Losses``."""
        return self._ask(kv, [form.kv for form in forms], last=False)

    def passed(self, kv: KeyValues) -> None:
        """Note that a chunk is kept; the next ones come after its exact keys and values."""
        self._ask(kv, [], last=True)

    def close(self) -> None:
        """Give the memory back."""
        self._task.cancel()

    def _ask(self, kv: KeyValues, forms: Sequence[KeyValues], *, last: bool) -> list[float]:
        work = _Work(kv, forms, last, Future())
        self._asked.set_result(work)
        while not work.losses.done():
            self._check()
            if self._task.done():
                self._task.result()
            try:
                return work.losses.result(timeout=0.25)
            except TimeoutError:
                continue
        return work.losses.result()

    # The engine's thread.

    def _steps(self, model: "Model") -> "TaskSteps[None]":
        cache = model.new_cache()
        try:
            while True:
                asked = self._asked
                yield asked
                work = asked.result()
                self._asked = Future()
                try:
                    losses: list[float] = []
                    if work.last:
                        cache.load(work.kv.keys, work.kv.values)
                    else:
                        losses = yield from self._compare(model, cache, work)
                except PalimpsestError as error:
                    work.losses.set_exception(error)
                else:
                    work.losses.set_result(losses)
        finally:
            cache.release()

    def _compare(self, model: "Model", past: Cache, work: _Work) -> Generator[Any, None, list[float]]:
        stop = work.kv.start + work.kv.tokens
        room = self._limit - stop
        # Where the model's context ends with the chunk, its own last tokens are read instead.
        cut = max(0, LEAST - room)
        if cut >= work.kv.tokens:
            return [float("inf")] * len(work.forms)
        texts = [self._ids[stop - cut : stop - cut + FOLLOWING], self._question[:room]]
        texts = [text for text in texts if len(text)]
        if not texts:
            return [float("inf")] * len(work.forms)
        exact = _read(model, past, work.kv[: work.kv.tokens - cut], texts)
        yield None
        losses = []
        for form in work.forms:
            found = _read(model, past, form[: form.tokens - cut], texts)
            losses.append(max(FLOOR, MARGIN * max(map(_divergence, exact, found))))
            yield None
        return losses


@torch.inference_mode()
def _read(model: "Model", past: Cache, kv: KeyValues, texts: Sequence[Sequence[int]]) -> list[torch.Tensor]:
    """Log-probabilities of what follows each token of some texts after a past and a chunk: [tokens, vocabulary]."""
    after = past.branch()
    branches = [after]
    try:
        after.load(kv.keys, kv.values)
        branches += [after.branch() for _ in texts]
        inputs = [
            SequenceInput(branch, text, logits="all")
            for branch, text in zip(branches[1:], texts, strict=True)
        ]
        return [output.logits.float().log_softmax(-1) for output in model.forward(inputs)]
    finally:
        for branch in branches:
            branch.release()


def _divergence(exact: torch.Tensor, found: torch.Tensor) -> float:
    """Mean Kullback-Leibler divergence, in nats a token."""
    return float((exact.exp() * (exact - found)).sum(-1).mean())
