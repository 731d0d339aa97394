"""Tokenizers of registered models, kept from one call to the next: loading one takes seconds."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from palimpsest.errors import FailedPrecondition, Reason
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
    """Load the tokenizer in a model's folder with transformers.

    Raises
    ------
    FailedPrecondition
        MODEL_CHANGED: it cannot be loaded, although it could when the model was registered. MODEL_INVALID.
    """
    from transformers import AutoTokenizer

    try:
        with failing_as_model():
            return AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        message = f"The tokenizer in {folder} is not what was registered: {error}. Put it back, or register it again."
        raise FailedPrecondition(Reason.MODEL_CHANGED, message) from error


@contextlib.contextmanager
def failing_as_model(*, private: bool = False) -> Iterator[None]:
    """Turn what the tokenizers library raises into an error of the model.

    It raises bare ``Exception``, and where its Rust code panics (a post-processor that names a token which is not
    there) a ``BaseException`` that no ``except Exception`` sees: it would end a worker rather than a request.

    Parameters
    ----------
    private
        Nobody may find what is tokenized in an error: what the library says is left out, as its panics quote the text.

    Raises
    ------
    FailedPrecondition
        MODEL_INVALID.
    """
    try:
        yield
    except BaseException as error:
        if type(error) is Exception or type(error).__name__ == "PanicException":
            said = f" ({type(error).__name__})" if private else f": {error}"
            message = (
                f"The model's tokenizer fails{said}. Correct its tokenizer.json and register the model again."
            )
            raise FailedPrecondition(Reason.MODEL_INVALID, message) from (None if private else error)
        raise
