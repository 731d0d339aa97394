"""The candidate block: the passages one generation may quote, their tokens, and the keys of those tokens.

::

    tokens      ... w0 w1 w2 w3 | w0 w1 w2 ...        one passage after another
    keys        ... k0 k1 k2 k3 | k0 k1 k2 ...        ki: the model's state before wi, so its value is wi

A span that starts at i is ``tokens[i : i + n]`` and never extends past the end of its passage. A passage's keys may be
missing: the process that runs the model computes them and fills them in.

On the wire the block is a safetensors file whose metadata hold one JSON text; missing keys take no space.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from palimpsest import json_input
from palimpsest.candidates.passages import Owner, Passage, plain, typed
from palimpsest.candidates.settings import Calibration
from palimpsest.errors import InvalidArgument, Reason

FORMAT = 1
MAX_PASSAGES = 1024
MAX_TOKENS = 1 << 18
MAX_BYTES = 512 << 20
MAX_LEFT = 256
"""Maximum number of left-context tokens of a passage."""


@dataclass
class Candidates:
    """All passages of one generation, with P passages, T tokens, and keys of d elements.

    Parameters
    ----------
    passages
        P of them.
    tokens
        int32 [T].
    first
        int64 [P + 1]: where each passage's tokens begin, and T.
    token_bytes
        int32 [T + P]: for each passage, the byte offset of each of its tokens in its text, and the text's length. Token
        i of passage p is at ``token_bytes[i + p]`` and ends at ``token_bytes[i + p + 1]``.
    left
        Token ids before each passage in its document: context for its keys.
    keys
        int8 [T, d].
    scales
        float32 [T]: a key is ``keys[i] * scales[i]``; 0 where there is no key.
    norms
        float32 [T]: squared norms of the keys, dequantised.
    present
        bool [P]: whether the passage's keys are filled in.
    epochs, tombstones
        By corpus: the version of its manifest, and of its deletions, that the block was made from.
    calibrations
        By corpus, where there is one.
    """

    passages: tuple[Passage, ...]
    tokens: np.ndarray
    first: np.ndarray
    token_bytes: np.ndarray
    left: tuple[tuple[int, ...], ...]
    keys: np.ndarray
    scales: np.ndarray
    norms: np.ndarray
    present: np.ndarray
    epochs: dict[str, int] = field(default_factory=dict)
    tombstones: dict[str, int] = field(default_factory=dict)
    calibrations: dict[str, Calibration] = field(default_factory=dict)

    @classmethod
    def without_keys(
        cls,
        passages: Sequence[Passage],
        tokens: Sequence[Sequence[int]],
        lengths: Sequence[Sequence[int]],
        left: Sequence[Sequence[int]],
        size: int,
    ) -> "Candidates":
        """A block whose keys are still missing.

        Parameters
        ----------
        passages
            In the order of their scores, or any other.
        tokens, lengths
            Of each passage: token ids, and how many bytes each token writes.
        left
            Token ids before each passage.
        size
            Elements of a key: the model's hidden size.
        """
        counts = [len(ids) for ids in tokens]
        total = sum(counts)
        offsets = [np.concatenate([[0], np.cumsum(n, dtype=np.int64)]) for n in lengths]
        block = cls(
            passages=tuple(passages),
            tokens=np.fromiter((t for ids in tokens for t in ids), dtype=np.int32, count=total),
            first=np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]).astype(np.int64),
            token_bytes=(np.concatenate(offsets) if offsets else np.zeros(0)).astype(np.int32),
            left=tuple(tuple(int(t) for t in ids) for ids in left),
            keys=np.zeros((total, size), dtype=np.int8),
            scales=np.zeros(total, dtype=np.float32),
            norms=np.zeros(total, dtype=np.float32),
            present=np.zeros(len(counts), dtype=bool),
        )
        block.check()
        return block

    def __len__(self) -> int:
        """Tokens of all passages."""
        return len(self.tokens)

    def passage_of(self) -> np.ndarray:
        """The number of each token's passage: int64 [T]."""
        return np.repeat(np.arange(len(self.passages)), np.diff(self.first))

    def ids(self, passage: int) -> np.ndarray:
        """Token ids of one passage: int32 [n]."""
        return self.tokens[self.first[passage] : self.first[passage + 1]]

    def byte_offsets(self, passage: int) -> np.ndarray:
        """Byte offsets of one passage's tokens in its text, with the end: int32 [n + 1]."""
        return self.token_bytes[self.first[passage] + passage : self.first[passage + 1] + passage + 1]

    def put_keys(self, passage: int, keys: np.ndarray, scales: np.ndarray, norms: np.ndarray) -> None:
        """Fill in one passage's keys: int8 [n, d], float32 [n] and float32 [n]."""
        part = slice(int(self.first[passage]), int(self.first[passage + 1]))
        if keys.shape != self.keys[part].shape or len(scales) != len(keys) or len(norms) != len(keys):
            raise _invalid(f"keys of shape {keys.shape} do not fit {self.keys[part].shape}")
        self.keys[part], self.scales[part], self.norms[part] = keys, scales, norms
        self.present[passage] = True

    def check(self) -> None:
        """Check that everything fits together.

        Raises
        ------
        InvalidArgument
            CANDIDATES_INVALID: it does not, or it is too large.
        """
        total, count, text = len(self.tokens), len(self.passages), [len(p.text) for p in self.passages]
        if count > MAX_PASSAGES or total > MAX_TOKENS:
            raise _invalid(f"{count} passages of {total} tokens are too many")
        size = self.keys.shape[1] if self.keys.ndim == 2 else -1
        for name, dtype, shape in (
            ("tokens", np.int32, (total,)), ("first", np.int64, (count + 1,)),
            ("token_bytes", np.int32, (total + count,)), ("keys", np.int8, (total, size)),
            ("scales", np.float32, (total,)), ("norms", np.float32, (total,)), ("present", np.bool_, (count,)),
        ):  # fmt: skip
            array = getattr(self, name)
            if array.dtype != dtype or array.shape != shape:
                raise _invalid(f"{name} is {array.dtype} {array.shape}, not {np.dtype(dtype)} {shape}")
        if self.first[0] != 0 or self.first[-1] != total or (np.diff(self.first) < 1).any():
            raise _invalid("passages do not follow each other")
        if total and int(self.tokens.min()) < 0:
            raise _invalid("a token id is negative")
        if not (_are_positive(self.scales) and _are_positive(self.norms)):
            raise _invalid("scales and norms must be finite and not negative")
        if len(self.left) != count or any(
            len(ids) > MAX_LEFT or min(ids, default=0) < 0 for ids in self.left
        ):
            raise _invalid("left contexts do not fit the passages")
        for number, length in enumerate(text):
            offsets, passage = self.byte_offsets(number), self.passages[number]
            if offsets[0] != 0 or offsets[-1] != length or (np.diff(offsets) < 0).any():
                raise _invalid(f"the tokens of passage {number} do not cover its text")
            positions = (passage.byte_start, passage.char_start, passage.token_start, passage.version)
            if min(positions) < 0 or not (math.isfinite(passage.score) and passage.score > 0):
                raise _invalid(f"passage {number} has a negative place, or a score that is not above 0")

    def to_bytes(self) -> bytes:
        """Write the block; see the module."""
        self.check()
        meta = {
            "format": FORMAT,
            "passages": [plain(p) for p in self.passages],
            "epochs": self.epochs,
            "tombstones": self.tombstones,
            "calibrations": {name: c.to_json() for name, c in self.calibrations.items()},
        }
        there = np.repeat(self.present, np.diff(self.first))
        arrays = {
            "tokens": self.tokens,
            "first": self.first,
            "token_bytes": self.token_bytes,
            "text": np.frombuffer(b"".join(p.text for p in self.passages), dtype=np.uint8),
            "left": np.array([t for ids in self.left for t in ids], dtype=np.int32),
            "left_counts": np.array([len(ids) for ids in self.left], dtype=np.int32),
            "present": self.present.astype(np.uint8),
            "keys": self.keys[there],
            "scales": self.scales[there],
            "norms": self.norms[there],
        }
        return save({n: np.ascontiguousarray(a) for n, a in arrays.items()}, {"candidates": json.dumps(meta)})

    @classmethod
    def from_bytes(cls, data: bytes) -> "Candidates":
        """Read what :meth:`to_bytes` wrote.

        Raises
        ------
        InvalidArgument
            CANDIDATES_INVALID: it is damaged, too large, or does not fit together.
        """
        if len(data) > MAX_BYTES:
            raise _invalid(f"{len(data)} bytes are too many")
        try:
            arrays = load(data)
            meta = json_input.decode(_metadata(data)["candidates"], max_bytes=MAX_BYTES)
            if meta["format"] != FORMAT:
                raise _invalid(f"format {meta['format']} is not known")
            block = cls._assemble(arrays, meta)
        except (
            SafetensorError,
            KeyError,
            TypeError,
            ValueError,
            IndexError,
            AttributeError,
            OverflowError,
        ) as error:
            raise _invalid(f"it is damaged: {error}") from error
        block.check()
        return block

    @classmethod
    def _assemble(cls, arrays: dict[str, np.ndarray], meta: dict[str, Any]) -> "Candidates":
        first, present = arrays["first"], arrays["present"] != 0
        counts, total = np.diff(first), len(arrays["tokens"])
        if total > MAX_TOKENS or len(present) > MAX_PASSAGES or len(counts) != len(present):
            raise ValueError("it is too large, or its parts differ")
        if (counts < 0).any() or int(counts.sum()) != total:
            raise ValueError("passages do not follow each other")
        there = np.repeat(present, counts)
        full = {}
        for name in ("keys", "scales", "norms"):
            packed = arrays[name]
            full[name] = np.zeros((total, *packed.shape[1:]), dtype=packed.dtype)
            full[name][there] = packed
        ends = np.cumsum(arrays["left_counts"])
        if (arrays["left_counts"] < 0).any() or int(ends[-1] if len(ends) else 0) != len(arrays["left"]):
            raise ValueError("left contexts do not add up")
        left = [arrays["left"][e - n : e].tolist() for e, n in zip(ends, arrays["left_counts"], strict=True)]
        text, at, passages = arrays["text"].tobytes(), 0, []
        for entry in meta["passages"]:
            length = entry.pop("bytes")
            if not isinstance(length, int) or not 0 <= length <= len(text) - at:
                raise ValueError("texts do not add up")
            owners = tuple(typed(Owner, owner) for owner in entry.pop("owners"))
            passages.append(typed(Passage, entry, text=text[at : at + length], owners=owners))
            at += length
        return cls(
            passages=tuple(passages),
            tokens=arrays["tokens"],
            first=first,
            token_bytes=arrays["token_bytes"],
            left=tuple(tuple(ids) for ids in left),
            present=present,
            epochs={str(k): int(v) for k, v in meta["epochs"].items()},
            tombstones={str(k): int(v) for k, v in meta["tombstones"].items()},
            calibrations={str(k): Calibration.from_json(v) for k, v in meta["calibrations"].items()},
            **full,
        )


def _metadata(data: bytes) -> dict[str, str]:
    """The metadata of a safetensors file, which ``load`` does not return."""
    size = int.from_bytes(data[:8], "little")
    return json_input.decode(data[8 : 8 + size], max_bytes=MAX_BYTES)["__metadata__"]


def _are_positive(values: np.ndarray) -> bool:
    return bool(np.isfinite(values).all() and (values >= 0).all())


def _invalid(message: str) -> InvalidArgument:
    return InvalidArgument(Reason.CANDIDATES_INVALID, f"The candidate block cannot be used: {message}.")
