"""Masks: which tokens may come next in a sequence whose text has a form.

A mask is computed on another thread while the model's next pass runs: both release the GIL. A pass never waits for it;
see :class:`palimpsest.engine.structured.StructuredSequence`.
"""

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import TYPE_CHECKING

import numpy as np
import torch

from palimpsest.errors import InvalidArgument, Reason

try:
    from palimpsest.lm.cpu.masking import keep_allowed
except (ImportError, RuntimeError):
    keep_allowed = None

if TYPE_CHECKING:
    from llguidance import LLMatcher


class MaskThreads:
    """Threads that compute masks; an executor without futures, whose making costs as much as a mask.

    Parameters
    ----------
    count
        So many masks may be slow before others wait.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._queue: SimpleQueue[Callable[[], object]] = SimpleQueue()
        self._lock = threading.Lock()
        self._started = False

    def submit(self, work: Callable[[], object]) -> None:
        """Have something done that does not raise."""
        self._queue.put(work)
        if not self._started:
            self._start()

    def _start(self) -> None:
        with self._lock:
            for number in range(0 if self._started else self.count):
                threading.Thread(target=self._run, name=f"masks-{number}", daemon=True).start()
            self._started = True

    def _run(self) -> None:
        while True:
            self._queue.get()()


MASKS = MaskThreads(4)
"""Those of this process."""


class GrammarState:
    """Where one sequence is in its grammar; used from one thread.

    Parameters
    ----------
    matcher
        Its own.
    first
        The mask of its first token.
    words
        Length of a mask.
    """

    def __init__(self, matcher: "LLMatcher", first: np.ndarray, words: int) -> None:
        self._matcher, self._words = matcher, words
        self._lock = threading.Lock()
        self._mask: np.ndarray | None = first
        self._error: Exception | None = None
        self._token: int | None = None
        self._wake: Callable[[], None] | None = None

    @property
    def ready(self) -> bool:
        """Whether the mask of the next token is there."""
        return self._mask is not None or self._error is not None

    def mask(self) -> np.ndarray:
        """The tokens that may come next, one bit each, uint32[ceil(vocabulary / 32)]; it is ready.

        Raises
        ------
        InvalidArgument
            STRUCTURED_TOO_COMPLEX.
        """
        if self._error is not None:
            raise self._error
        assert self._mask is not None, "the mask is not ready"
        return self._mask

    def advance(self, token: int) -> None:
        """Take a token that the mask allows."""
        self._token, self._mask = token, None

    def begin(self) -> None:
        """Begin with the mask that follows the token taken last, on another thread, unless that has begun."""
        if self._token is not None:
            token, self._token = self._token, None
            MASKS.submit(lambda: self._finish(token))

    def when_ready(self, wake: Callable[[], None]) -> None:
        """Call something, on any thread, once the mask is there."""
        with self._lock:
            if not self.ready:
                self._wake = wake
                return
        wake()

    def compute(self, token: int) -> np.ndarray:
        """Take a token that the mask allows, and return the next mask.

        Raises
        ------
        InvalidArgument
            STRUCTURED_TOO_COMPLEX.
        """
        if not self._matcher.consume_token(token):
            raise _too_complex(self._matcher)
        return next_mask(self._matcher, self._words)

    def _finish(self, token: int) -> None:
        try:
            mask, error = self.compute(token), None
        except Exception as raised:  # its sequence's own, raised when it asks for the mask
            mask, error = None, raised
        except (
            BaseException
        ) as raised:  # what Rust panics with is no Exception; without a mask the sequence would hang
            mask, error = None, RuntimeError(f"llguidance failed: {raised}")
        with self._lock:
            self._mask, self._error = mask, error
            wake, self._wake = self._wake, None
        if wake is not None:
            wake()


def masked(logits: torch.Tensor, mask: np.ndarray) -> torch.Tensor:
    """Logits with -inf for every token that a mask forbids.

    Parameters
    ----------
    logits
        [vocabulary], float32, of any device; not changed.
    mask
        uint32[ceil(vocabulary / 32)].

    Returns
    -------
    torch.Tensor
        [vocabulary], float32, on the CPU.
    """
    values = logits.detach().to("cpu", torch.float32).numpy()
    if keep_allowed is None:
        allowed = np.unpackbits(mask.view(np.uint8), bitorder="little")[: len(values)]
        return torch.from_numpy(np.where(allowed, values, np.float32(-np.inf)))
    kept = values.copy()
    keep_allowed(kept, mask)
    return torch.from_numpy(kept)


def next_mask(matcher: "LLMatcher", words: int) -> np.ndarray:
    """Return the mask of a matcher's state, uint32[words].

    Raises
    ------
    InvalidArgument
        STRUCTURED_TOO_COMPLEX.
    """
    from llguidance.numpy import fill_next_token_bitmask

    mask = np.zeros((1, words), np.int32)
    fill_next_token_bitmask(matcher, mask)
    if matcher.is_error():
        raise _too_complex(matcher)
    if not mask.any():
        raise InvalidArgument.field(
            Reason.STRUCTURED_TOO_COMPLEX,
            "structured",
            "no token of the model continues the text within its form.",
        )
    return mask[0].view(np.uint32)


def _too_complex(matcher: "LLMatcher") -> InvalidArgument:
    problem = matcher.get_error().strip()[:500]
    return InvalidArgument.field(
        Reason.STRUCTURED_TOO_COMPLEX,
        "structured",
        f"The text cannot be continued within the limits: {problem}",
    )
