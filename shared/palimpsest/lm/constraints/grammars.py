"""Compiled grammars, and the mask of allowed tokens that each of a sequence's tokens leads to.

A mask is computed on a thread of its own as soon as a token is chosen, while the model's next pass runs: llguidance
releases the GIL. A pass never waits for it; see :class:`palimpsest.engine.structured.StructuredSequence`.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from palimpsest.errors import FailedPrecondition, InvalidArgument, Reason
from palimpsest.lm.constraints.forms import Form, refused
from palimpsest.lm.token_bytes import TokenBytes, special_ids
from palimpsest.lru import LruCache

try:
    from palimpsest.lm.cpu.masking import keep_allowed
except (ImportError, RuntimeError):
    keep_allowed = None

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer

KEPT = 256
"""Compiled grammars that are kept for each model."""

_masks = ThreadPoolExecutor(max_workers=4, thread_name_prefix="masks")


class Grammar:
    """A compiled grammar; each sequence gets a state of its own.

    Parameters
    ----------
    matcher
        In its first state; never changed.
    """

    def __init__(self, matcher: "LLMatcher", words: int) -> None:
        self._matcher, self._words = matcher, words
        self._first = _next_mask(matcher.deep_copy(), words)
        self._first.flags.writeable = False

    def start(self) -> "GrammarState":
        """The state of a sequence without tokens; takes microseconds."""
        return GrammarState(self._matcher.deep_copy(), self._first, self._words)


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
        self._coming: Future[np.ndarray] = Future()
        self._coming.set_result(first)

    @property
    def ready(self) -> bool:
        """Whether the mask of the next token is there."""
        return self._coming.done()

    def mask(self) -> np.ndarray:
        """The tokens that may come next, one bit each, uint32[ceil(vocabulary / 32)]; waits for it.

        Raises
        ------
        InvalidArgument
            STRUCTURED_TOO_COMPLEX.
        """
        return self._coming.result()

    def advance(self, token: int) -> None:
        """Take a token of the mask, which was taken before, and begin with the next mask on another thread."""
        self._coming = _masks.submit(self.compute, token)

    def compute(self, token: int) -> np.ndarray:
        """Take an allowed token; returns the next mask.

        Raises
        ------
        InvalidArgument
            STRUCTURED_TOO_COMPLEX.
        """
        if not self._matcher.consume_token(token):
            raise _too_complex(self._matcher)
        return _next_mask(self._matcher, self._words)

    def when_ready(self, wake: Callable[[], None]) -> None:
        """Call something, on any thread, once the mask is there."""
        self._coming.add_done_callback(lambda _: wake())


class GrammarCompiler:
    """Compiles grammars for one model, and keeps those used last; may be used from any thread.

    Parameters
    ----------
    tokenizer
        The model's.
    vocab_size
        Elements of a row of logits.
    eos_ids
        Tokens with which the model may end a complete text.
    """

    def __init__(self, tokenizer: Any, vocab_size: int, eos_ids: frozenset[int]) -> None:
        self._tokenizer, self._vocab_size, self._eos_ids = tokenizer, vocab_size, eos_ids
        self._lock = threading.Lock()
        self._vocabulary: LLTokenizer | None = None
        self._compiled = LruCache[Form, Grammar](KEPT)

    def compile(self, form: Form) -> Grammar:
        """Return the grammar of a form; takes milliseconds, the first one for a model a second.

        Raises
        ------
        InvalidArgument
            STRUCTURED_INVALID, with what cannot be honoured.
        FailedPrecondition
            STRUCTURED_UNSUPPORTED: the model has no end-of-sequence token.
        """
        return self._compiled.get_or_make(form, lambda: self._compile(form))

    def _compile(self, form: Form) -> Grammar:
        from llguidance import LLMatcher

        source = form.grammar()
        matcher = LLMatcher(self._opened(), source, log_level=0)
        if matcher.is_error():
            raise refused(form.kind, matcher.get_error())
        try:
            return Grammar(matcher, -(-self._vocab_size // 32))
        except InvalidArgument as error:
            raise refused(form.kind, error.message) from None

    def _opened(self) -> "LLTokenizer":
        """The vocabulary as llguidance wants it, opened once."""
        with self._lock:
            if self._vocabulary is None:
                self._vocabulary = _open(self._tokenizer, self._vocab_size, self._eos_ids)
                if keep_allowed is not None:  # compile it here, not at the first token on the engine's thread
                    masked(torch.zeros(64), np.ones(2, np.uint32))
            return self._vocabulary


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
    out = np.empty_like(values)
    keep_allowed(values, mask, out)
    return torch.from_numpy(out)


class _Vocabulary:
    """A tokenizer as llguidance reads it."""

    def __init__(self, tokenizer: Any, vocab_size: int, eos: int) -> None:
        write, special = TokenBytes(tokenizer), special_ids(tokenizer)
        known = min(vocab_size, len(tokenizer))
        self.eos_token_id, self.bos_token_id = eos, None
        self.special_token_ids = sorted(i for i in special if i < known)
        self.tokens = [write(i) for i in range(known)] + [b""] * (vocab_size - known)
        self._bytes = {token: i for i, token in reversed(list(enumerate(self.tokens))) if len(token) == 1}

    def __call__(self, text: str | bytes) -> list[int]:
        """Tokens of a text, byte by byte: only what forces tokens reads them, and nothing here does."""
        data = text.encode() if isinstance(text, str) else text
        return [self._bytes[bytes([byte])] for byte in data if bytes([byte]) in self._bytes]


def _open(tokenizer: Any, vocab_size: int, eos_ids: frozenset[int]) -> "LLTokenizer":
    from llguidance import LLTokenizer, TokenizerWrapper

    if not eos_ids:
        raise FailedPrecondition(
            Reason.STRUCTURED_UNSUPPORTED,
            "The model has no end-of-sequence token, with which a structured text ends. Use another model.",
        )
    ends = sorted(eos_ids)
    return LLTokenizer(TokenizerWrapper(_Vocabulary(tokenizer, vocab_size, ends[0])), vocab_size, ends)


def _next_mask(matcher: "LLMatcher", words: int) -> np.ndarray:
    from llguidance.numpy import fill_next_token_bitmask

    mask = np.zeros((1, words), np.int32)
    fill_next_token_bitmask(matcher, mask)
    if matcher.is_error():
        raise _too_complex(matcher)
    return mask[0].view(np.uint32)


def _too_complex(matcher: "LLMatcher") -> InvalidArgument:
    problem = matcher.get_error().strip()[:500]
    return InvalidArgument.field(
        Reason.STRUCTURED_TOO_COMPLEX,
        "structured",
        f"The text cannot be continued within the limits: {problem}",
    )
