"""Matrices that stay quantised in memory: each is dequantised when rows go through it, and then let go.

All configurations of a batch go through a layer together, so that a matrix is dequantised once for all their rows.
"""

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch

from palimpsest.lm.anatomy import Part

METHODS = {"bitsandbytes": "bitsandbytes"}
"""Ways of quantising (``quant_method`` of a config) whose matrices can be read here, each with the package it needs."""

_INT8_STEPS = 127


def method_of(config: Any) -> str:
    """Return how a config says that its weights are quantised; empty: they are not."""
    told = getattr(config, "quantization_config", None)
    if told is None:
        return ""
    named = told.get("quant_method") if isinstance(told, dict) else getattr(told, "quant_method", None)
    return str(getattr(named, "value", named) or "an unnamed method")


def is_there(method: str) -> bool:
    """Whether the package that a method needs is installed."""
    return find_spec(METHODS[method]) is not None


def is_quantised(module: Any) -> bool:
    """Whether a module keeps its matrix quantised."""
    return _kind(module) in _DENSE


def matrix_of(module: Any, dtype: torch.dtype) -> torch.Tensor:
    """Dequantise a module's matrix: [outputs, inputs]."""
    return _DENSE[_kind(module)](module).to(dtype)


def part_of(model: Any, part: Part, dtype: torch.dtype) -> torch.Tensor:
    """Return a part's weight as :meth:`Part.weight` does, dequantised if need be."""
    module = part.module_of(model)
    return part.select(matrix_of(module, dtype)) if is_quantised(module) else part.weight(model)


def rounded(module: Any, weight: torch.Tensor) -> torch.Tensor:
    """Return what is left of another matrix of the module's shape in the module's own format: [outputs, inputs]."""
    return _ROUNDED[_kind(module)](module, weight.float())


def _kind(module: Any) -> str:
    return type(module).__name__


def _four_bits(module: Any) -> torch.Tensor:
    functional: Any = import_module("bitsandbytes.functional")
    return functional.dequantize_4bit(module.weight.data, module.weight.quant_state)


def _eight_bits(module: Any) -> torch.Tensor:
    scales = module.weight.SCB if module.weight.SCB is not None else module.state.SCB
    return module.weight.data.float() * (scales.float() / _INT8_STEPS)[:, None]


def _to_four_bits(module: Any, weight: torch.Tensor) -> torch.Tensor:
    functional: Any = import_module("bitsandbytes.functional")
    state = module.weight.quant_state
    kept, own = functional.quantize_4bit(
        weight.contiguous(),
        blocksize=state.blocksize,
        compress_statistics=state.nested,
        quant_type=state.quant_type,
    )
    return functional.dequantize_4bit(kept, own)


def _to_eight_bits(module: Any, weight: torch.Tensor) -> torch.Tensor:
    step = weight.abs().amax(1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny) / _INT8_STEPS
    return (weight / step).round() * step


_DENSE: dict[str, Callable[[Any], torch.Tensor]] = {"Linear4bit": _four_bits, "Linear8bitLt": _eight_bits}
_ROUNDED: dict[str, Callable[[Any, torch.Tensor], torch.Tensor]] = {
    "Linear4bit": _to_four_bits,
    "Linear8bitLt": _to_eight_bits,
}
