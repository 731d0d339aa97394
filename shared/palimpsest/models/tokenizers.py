"""Tokenizers of registered models, kept from one call to the next: loading one takes seconds."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from palimpsest.lru import LruCache
from palimpsest.models.record import ModelRecord

if TYPE_CHECKING:
    from transformers.tokenization_utils_base import PreTrainedTokenizerBase

T = TypeVar("T")

_HELD = 8


class TokenizerCache(Generic[T]):
    """Tokenizers by fingerprint. May be used from any thread.

    Parameters
    ----------
    load
        Makes a tokenizer of a model's folder, such as :func:`load_tokenizer`.
    """

    def __init__(self, load: Callable[[Path], T]) -> None:
        self._load = load
        self._held: LruCache[str, T] = LruCache(_HELD)

    def get(self, record: ModelRecord) -> T:
        """Return a model's tokenizer; raises whatever loading it raises."""
        return self._held.get_or_make(record.tokenizer_fingerprint, lambda: self._load(Path(record.path)))


def load_tokenizer(folder: Path) -> "PreTrainedTokenizerBase":
    """Load the tokenizer in a model's folder with transformers."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder, local_files_only=True)
