"""The shape of a model, from its config: what caches, indexes and checks need to know without loading it."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedConfig


@dataclass(frozen=True)
class ModelGeometry:
    """Sizes of a model's text part.

    Attributes
    ----------
    layers
        Decoder layers.
    hidden_size
        Width of the residual stream.
    kv_heads, head_dim
        Heads of keys and values, and the elements of each; 0 where the model has none, or not the same in each layer.
    rotary
        How keys are rotated: "half" for the plain kind, else "none"; see ``palimpsest.kv.Rotary``.
    rotary_theta
        Base of the rotary frequencies.
    """

    layers: int
    hidden_size: int
    kv_heads: int
    head_dim: int
    rotary: str = "none"
    rotary_theta: float = 10_000.0

    @classmethod
    def of(cls, config: "PreTrainedConfig") -> "ModelGeometry":
        """Read the geometry from a model's config."""
        from palimpsest.kv.rotary import Rotary

        text = config.get_text_config()
        hidden, heads = _size(text, "hidden_size"), _size(text, "num_attention_heads")
        rotary = Rotary.of(text)
        return cls(
            layers=_size(text, "num_hidden_layers"),
            hidden_size=hidden,
            kv_heads=_size(text, "num_key_value_heads") or heads,
            head_dim=_size(text, "head_dim") or (hidden // heads if heads else 0),
            rotary=rotary.kind,
            rotary_theta=rotary.theta,
        )


@lru_cache(32)
def read_geometry(folder: Path, fingerprint: str) -> ModelGeometry:
    """Read the geometry of the model in a folder, once for each fingerprint."""
    from transformers import AutoConfig

    return ModelGeometry.of(AutoConfig.from_pretrained(folder, local_files_only=True))


def _size(config: "PreTrainedConfig", name: str) -> int:
    value = getattr(config, name, 0)
    return value if isinstance(value, int) else 0
