"""Rotary position embedding, off and on again: keys are coded as the model had them before positions turned them.

A head of a rotated key turns with its position, which hides what neighbouring tokens share. Un-rotating is exact up
to rounding and needs nothing but the frequencies and the positions (CacheGen does not treat this; KVQuant shows what
it is worth).
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import torch

from palimpsest.errors import InvalidArgument, Reason

if TYPE_CHECKING:
    from transformers import PreTrainedConfig


@dataclass(frozen=True)
class Rotary:
    """How a model rotates its keys.

    Parameters
    ----------
    kind
        ``"none"`` (keys are coded as they are), ``"half"`` (the first half of a head's elements pairs with the
        second: Llama, Qwen, Mistral and most others).
    theta
        Base of the frequencies.
    """

    kind: str = "none"
    theta: float = 10_000.0

    def __post_init__(self) -> None:
        if self.kind not in ("none", "half") or not 1.0 < self.theta < 1e12:
            raise InvalidArgument(
                Reason.KV_ROTARY, f"No rotary embedding {self.kind!r} with base {self.theta}."
            )

    @classmethod
    def of(cls, config: "PreTrainedConfig") -> "Rotary":
        """Read it from a model's config; scaled, partial and multi-axis kinds count as ``"none"``."""
        parameters = getattr(config, "rope_parameters", None) or {}
        plain = parameters.get("rope_type", "default") == "default" and "rope_theta" in parameters
        whole = parameters.get("partial_rotary_factor", 1.0) == 1.0 and "mrope_section" not in parameters
        interleaved = getattr(config, "model_type", "") in {"cohere", "cohere2", "glm", "glm4", "gptj"}
        if plain and whole and not interleaved:
            return cls("half", float(parameters["rope_theta"]))
        return cls()

    def angles(self, start: int, tokens: int, dim: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return cosine and sine, float32 ``[tokens, dim / 2]``, of the positions from ``start`` on."""
        if dim % 2:
            raise InvalidArgument(Reason.KV_ROTARY, "The rotary head size must be even.")
        return _angles(self.theta, start, tokens, dim)

    def turn(self, keys: torch.Tensor, start: int, *, back: bool) -> torch.Tensor:
        """Rotate (or with ``back`` un-rotate) keys ``[..., tokens, dim]``; returns float32."""
        keys = keys.float()
        if self.kind == "none":
            return keys
        cosine, sine = self.angles(start, keys.shape[-2], keys.shape[-1])
        if back:
            sine = -sine
        half = keys.shape[-1] // 2
        turned = torch.empty_like(keys, memory_format=torch.contiguous_format)
        # In place, half by half: the cost is memory traffic, not arithmetic.
        for mine, other, value in (
            (slice(0, half), slice(half, None), -1),
            (slice(half, None), slice(0, half), 1),
        ):
            part = turned[..., mine]
            torch.mul(keys[..., mine], cosine, out=part)
            part.addcmul_(keys[..., other], sine, value=value)
        return turned

    def flatten(self, part: torch.Tensor, start: int, *, keys: bool) -> torch.Tensor:
        """Return keys (un-rotated) or values ``[layers, heads, tokens, dim]`` as ``[tokens, layers * heads * dim]``."""
        part = self.turn(part, start, back=True) if keys else part.float()
        return part.permute(2, 0, 1, 3).reshape(part.shape[2], -1)

    def unflatten(self, x: torch.Tensor, target: torch.Tensor, start: int, *, keys: bool) -> None:
        """Write ``[tokens, layers * heads * dim]`` into ``target``, rotated if keys, in the target's type."""
        layers, heads, tokens, dim = target.shape
        part = x.view(tokens, layers, heads, dim).permute(1, 2, 0, 3)
        part = self.turn(part, start, back=False) if keys else part
        if target.dtype is torch.float16:
            # What lay near the largest float16 may have been rounded to beyond it, which must not become infinity.
            part = part.clamp(-65504, 65504)
        target.copy_(part)


@lru_cache(2)
def _angles(theta: float, start: int, tokens: int, dim: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The same for every group of layers of a chunk."""
    inverse = theta ** (-torch.arange(0, dim, 2, dtype=torch.float64) / dim)
    turn = torch.arange(start, start + tokens, dtype=torch.float64)[:, None] * inverse
    return turn.cos().float(), turn.sin().float()
