"""From texts to token ids, with tokenizers kept from one call to the next."""

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from palimpsest.errors import InvalidArgument, Reason
from palimpsest.lm import encode_text
from palimpsest.models import ModelRecord

if TYPE_CHECKING:
    from palimpsest.artifacts import ArtifactStore

_HELD = 8


class TokenizerCache:
    """Tokenizers by fingerprint; loading one takes seconds. May be used from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: OrderedDict[str, Any] = OrderedDict()

    def encode(self, record: ModelRecord, text: str) -> list[int]:
        """Token ids of raw text, opening special tokens included.

        Raises
        ------
        InvalidArgument
            PROMPT_EMPTY.
        """
        from transformers import AutoTokenizer

        key = record.tokenizer_fingerprint
        with self._lock:
            if key not in self._held:
                self._held[key] = AutoTokenizer.from_pretrained(record.path, local_files_only=True)
                while len(self._held) > _HELD:
                    self._held.popitem(last=False)
            self._held.move_to_end(key)
            tokenizer = self._held[key]
        return encode_text(tokenizer, text, "text")


def read_text(artifacts: "ArtifactStore", digest: str) -> str:
    """A text artefact.

    Raises
    ------
    InvalidArgument
        INVALID_REQUEST: it is not UTF-8.
    """
    try:
        return artifacts.read_bytes(digest).decode()
    except UnicodeDecodeError as error:
        raise InvalidArgument(
            Reason.INVALID_REQUEST,
            f"{digest} is no UTF-8 text (byte {error.start}); upload the text itself.",
            metadata={"offset": error.start},
        ) from None
