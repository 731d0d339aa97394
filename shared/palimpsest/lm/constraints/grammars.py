"""Compiled grammars, one for each form, kept for each model."""

import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from palimpsest.errors import FailedPrecondition, InvalidArgument, Reason
from palimpsest.lm.constraints.forms import Form, refused
from palimpsest.lm.constraints.masks import GrammarState, masked, next_mask
from palimpsest.lm.token_bytes import TokenBytes, special_ids
from palimpsest.lru import LruCache

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer

KEPT = 256
"""Compiled grammars that are kept for each model."""


class Grammar:
    """A compiled grammar; each sequence gets a state of its own.

    Parameters
    ----------
    matcher
        In its first state; never changed.
    """

    def __init__(self, matcher: "LLMatcher", words: int) -> None:
        self._matcher, self._words = matcher, words
        self._first = next_mask(matcher.deep_copy(), words)

    def start(self) -> "GrammarState":
        """The state of a sequence without tokens; takes microseconds."""
        return GrammarState(self._matcher.deep_copy(), self._first, self._words)


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
        try:
            return self._compiled_by_library(form)
        except (Exception, KeyboardInterrupt, SystemExit):
            raise
        except (
            BaseException
        ) as error:  # what Rust panics with is no Exception, and would end more than this request
            raise refused(form.kind, f"llguidance failed: {error}") from None

    def _compiled_by_library(self, form: Form) -> Grammar:
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
                # Compiled here, not at the first token on the engine's thread.
                masked(torch.zeros(64), np.ones(2, np.uint32))
            return self._vocabulary


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
