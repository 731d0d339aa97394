"""What a context's keys and values look like, and one line each way to a transformers cache."""

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch

from palimpsest.errors import InvalidArgument, OutOfRange, Reason, Unimplemented

if TYPE_CHECKING:
    from transformers import DynamicCache, PreTrainedConfig

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
"""The element types of a stream, by name."""


@dataclass(frozen=True)
class Geometry:
    """The shape of one token's keys and values.

    Parameters
    ----------
    layers
        Attention layers.
    kv_heads
        Key and value heads of a layer.
    key_dim, value_dim
        Elements of one head.
    """

    layers: int
    kv_heads: int
    key_dim: int
    value_dim: int

    @property
    def key_width(self) -> int:
        """Channels of one layer's keys."""
        return self.kv_heads * self.key_dim

    @property
    def value_width(self) -> int:
        """Channels of one layer's values."""
        return self.kv_heads * self.value_dim

    def width(self, component: int) -> int:
        """Channels of one layer's keys (0) or values (1)."""
        return (self.key_width, self.value_width)[component]

    @property
    def values_per_token(self) -> int:
        """Elements that one token adds to the cache."""
        return self.layers * (self.key_width + self.value_width)


@dataclass(frozen=True)
class KeyValues:
    """Keys and values of consecutive tokens of one context, keys rotated as the model keeps them.

    Parameters
    ----------
    keys
        ``[layers, kv_heads, tokens, key_dim]``, bfloat16, float16 or float32.
    values
        ``[layers, kv_heads, tokens, value_dim]``, the same type.
    start
        Position of the first token in the context; its rotary position too.

    Raises
    ------
    InvalidArgument
        The tensors disagree, hold no token, or have another type.
    """

    keys: torch.Tensor
    values: torch.Tensor
    start: int = 0

    def __post_init__(self) -> None:
        keys, values = self.keys, self.values
        if keys.ndim != 4 or values.ndim != 4 or keys.shape[:3] != values.shape[:3]:
            raise InvalidArgument(
                Reason.KV_SHAPE,
                "Keys and values are [layers, kv_heads, tokens, head_dim] and agree in the first three; "
                f"these are {list(keys.shape)} and {list(values.shape)}.",
            )
        if 0 in keys.shape or 0 in values.shape or self.start < 0:
            raise InvalidArgument(
                Reason.KV_SHAPE, "A cache needs at least one layer, head, token and element."
            )
        if keys.dtype != values.dtype or keys.dtype not in DTYPES.values():
            raise InvalidArgument(
                Reason.KV_DTYPE, f"Keys and values share one type of {', '.join(DTYPES)}; convert them first."
            )

    @property
    def tokens(self) -> int:
        """How many tokens these are."""
        return self.keys.shape[2]

    @property
    def geometry(self) -> Geometry:
        """The shape of one token."""
        layers, heads, _, key_dim = self.keys.shape
        return Geometry(layers, heads, key_dim, self.values.shape[3])

    @property
    def dtype_name(self) -> str:
        """The element type's name, as streams write it."""
        return str(self.keys.dtype).removeprefix("torch.")

    def part(self, component: int) -> torch.Tensor:
        """Return keys (0) or values (1)."""
        return (self.keys, self.values)[component]

    def __getitem__(self, tokens: slice) -> "KeyValues":
        """Return a view of some of the tokens; only whole slices, counted from this object's first token."""
        first, last, step = tokens.indices(self.tokens)
        if step != 1 or last <= first:
            raise OutOfRange(
                Reason.KV_RANGE,
                f"Tokens {first} to {last} are not a consecutive range of these {self.tokens} tokens.",
                metadata={"tokens": self.tokens},
            )
        return KeyValues(self.keys[:, :, first:last], self.values[:, :, first:last], self.start + first)

    def chunks(self, tokens: int) -> "list[KeyValues]":
        """Cut into chunks of ``tokens``; the last may be shorter."""
        if tokens < 1:
            raise InvalidArgument(Reason.KV_RANGE, "A chunk has at least one token.")
        return [self[at : min(at + tokens, self.tokens)] for at in range(0, self.tokens, tokens)]

    @staticmethod
    def join(parts: "list[KeyValues]") -> "KeyValues":
        """Join consecutive chunks."""
        if not parts or len({(part.geometry, part.keys.dtype) for part in parts}) != 1:
            raise InvalidArgument(Reason.KV_SHAPE, "Give at least one chunk, and all of one shape and type.")
        for before, after in pairwise(parts):
            if after.start != before.start + before.tokens:
                raise InvalidArgument(Reason.KV_RANGE, "The chunks are not consecutive; sort them by start.")
        return KeyValues(
            torch.cat([part.keys for part in parts], 2),
            torch.cat([part.values for part in parts], 2),
            parts[0].start,
        )


def from_cache(cache: "DynamicCache", row: int = 0) -> KeyValues:
    """Take one row of a transformers cache.

    Parameters
    ----------
    cache
        A ``DynamicCache`` whose layers all attend to every position.
    row
        Which row of the batch. Rows with left padding have to be trimmed first.

    Raises
    ------
    Unimplemented
        A layer keeps a window, a state or quantised elements instead of every position.
    InvalidArgument
        The cache is empty, has no such row, or layers of different shapes.
    """
    from transformers.cache_utils import DynamicLayer

    for layer in cache.layers:
        if type(layer) is not DynamicLayer:
            raise Unimplemented(
                Reason.KV_LAYER_UNSUPPORTED,
                f"{type(layer).__name__} does not keep all positions; recompute such models from their text.",
            )
    layers: list[Any] = list(cache.layers)
    if not layers or not all(layer.is_initialized for layer in layers):
        raise InvalidArgument(Reason.KV_SHAPE, "The cache is empty; run the model on the context first.")
    if len({(layer.keys.shape, layer.values.shape) for layer in layers}) != 1:
        raise InvalidArgument(
            Reason.KV_SHAPE, "The layers differ in shape; only caches of even layers are coded."
        )
    if not 0 <= row < layers[0].keys.shape[0]:
        raise InvalidArgument(
            Reason.KV_RANGE, f"The cache has rows 0 to {layers[0].keys.shape[0] - 1}; there is no row {row}."
        )
    return KeyValues(
        torch.stack([layer.keys[row] for layer in layers]),
        torch.stack([layer.values[row] for layer in layers]),
    )


def to_cache(kv: KeyValues, config: "PreTrainedConfig | None" = None) -> "DynamicCache":
    """Build the transformers cache (batch of 1) that ``from_cache`` came from, ready for ``past_key_values=``."""
    from transformers import DynamicCache

    pairs = list(zip(kv.keys.unsqueeze(1).unbind(0), kv.values.unsqueeze(1).unbind(0), strict=True))
    return DynamicCache(ddp_cache_data=pairs, config=config)
