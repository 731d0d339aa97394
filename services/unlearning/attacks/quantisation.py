"""Quantisation as an attack: storing weights coarsely undoes updates that are smaller than a step of the grid.

An unlearned model that was made with small updates falls, once quantised, onto the same grid points as the model it
came from, and knows again (Zhang et al. 2024, "Catastrophic Failure of LLM Unlearning via Quantization"). Weights are
quantised and dequantised here, so that any model runs: what changes is the values alone.
"""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import gguf
import torch
from torch import Tensor, nn
from torch.nn import functional

from palimpsest.errors import FailedPrecondition, InvalidArgument, Reason
from services.unlearning.attacks.outcomes import Attack

GGUF_FORMATS = ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "MXFP4")
"""Formats of GGUF files that weights can be put into here. The registry reads more: the K and IQ formats and NVFP4,
which the reference code reads but does not write, and the ternary TQ, which is for models trained in it."""

Scope = Literal["layers", "matrices", "all"]
"""What is stored coarsely: the layers' matrices; embeddings and the head as well; every parameter."""

_CASTS = {"bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Scheme:
    """How weights are stored.

    Attributes
    ----------
    name
        Such as ``int4/32``.
    stored
        Returns what a weight reads as after it has been stored: float [outputs, inputs] to the same shape and dtype.
    scope
        Which weights.
    """

    name: str
    stored: Callable[[Tensor], Tensor]
    scope: Scope = "layers"


def round_to_nearest(bits: int, group: int, *, scope: Scope = "layers") -> Scheme:
    """Symmetric round-to-nearest quantisation, with a scale for every ``group`` inputs of an output.

    The scale of a group is its largest absolute weight divided by 2**(bits - 1) - 1, in float32; codes are rounded half
    to even. As loaders of such models do, it leaves embeddings and the head alone unless the scope says otherwise.

    Parameters
    ----------
    bits
        Of a code: 2 to 8.
    group
        Weights that share a scale, such as 32 or 128; the last group of a row may be shorter.
    scope
        Which weights.

    Raises
    ------
    InvalidArgument
        ATTACK_INVALID: bits or group out of range.
    """
    if not 2 <= bits <= 8 or group < 1:
        message = (
            f"Codes have 2 to 8 bits and groups at least one weight; got {bits} bits and groups of {group}."
        )
        raise InvalidArgument(Reason.ATTACK_INVALID, message)
    most = 2 ** (bits - 1) - 1

    def stored(weight: Tensor) -> Tensor:
        inputs = weight.shape[1]
        padded = functional.pad(weight.float(), (0, -inputs % group)).unflatten(1, (-1, group))
        scale = padded.abs().amax(-1, keepdim=True) / most  # [outputs, groups, 1]
        codes = (padded / scale.where(scale > 0, 1.0)).round().clamp(-most, most)
        return (codes * scale).flatten(1)[:, :inputs].to(weight.dtype)

    return Scheme(f"int{bits}/{group}", stored, scope)


def gguf_format(name: str) -> Scheme:
    """A storage format of GGUF files, by the reference code of the ``gguf`` package, bit for bit.

    All matrices are quantised, embeddings and head too: the weights are then those of a model that was registered from
    such a file. Rows that blocks of 32 do not divide are kept in float16, as llama.cpp
    does.

    Raises
    ------
    InvalidArgument
        ATTACK_INVALID: the format is not one of :data:`GGUF_FORMATS`.
    """
    if name not in GGUF_FORMATS:
        message = f"Weights cannot be written as {name!r} here; choose one of {', '.join(GGUF_FORMATS)}."
        raise InvalidArgument(Reason.ATTACK_INVALID, message)
    kind = gguf.GGMLQuantizationType[name]
    block = gguf.GGML_QUANT_SIZES[kind][0]

    def stored(weight: Tensor) -> Tensor:
        if weight.shape[1] % block:
            return weight.half().to(weight.dtype)
        values = weight.detach().float().cpu().contiguous().numpy()
        read = torch.from_numpy(gguf.dequantize(gguf.quantize(values, kind), kind))
        return read.to(weight)

    return Scheme(name, stored, "matrices")


def cast(dtype: str) -> Scheme:
    """Every parameter rounded to ``bfloat16`` or ``float16``; arithmetic stays in the module's own dtype.

    Raises
    ------
    InvalidArgument
        ATTACK_INVALID: another dtype.
    """
    if dtype not in _CASTS:
        raise InvalidArgument(
            Reason.ATTACK_INVALID, f"Weights are cast to bfloat16 or float16, not to {dtype!r}."
        )
    return Scheme(dtype, lambda weight: weight.to(_CASTS[dtype]).to(weight.dtype), "all")


def standard_schemes() -> tuple[Scheme, ...]:
    """The schemes a request is audited with unless it names others."""
    integers = [round_to_nearest(bits, group) for bits in (8, 4) for group in (32, 128)]
    return (*integers, gguf_format("Q8_0"), gguf_format("Q4_0"), cast("bfloat16"), cast("float16"))


def quantisation(scheme: Scheme) -> Attack:
    """Return the attack that scores a model as stored by a scheme; a cast is allowed 2 points."""
    allowed = 2.0 if scheme.name in _CASTS else None
    return Attack(
        scheme.name, lambda module: quantised(module, scheme), allowed=allowed, precision=scheme.name
    )


@contextmanager
def quantised(module: nn.Module, scheme: Scheme) -> Iterator[nn.Module]:
    """Quantise a module in place, and restore its weights bit for bit at the end.

    Needs memory for a second copy of the weights that are quantised.

    Raises
    ------
    FailedPrecondition
        ATTACK_INVALID: a mixture of experts whose weights are not matrices.
    """
    weights = [weight for weight, _ in _weights(module, scheme.scope)]
    kept = [weight.detach().clone() for weight in weights]
    try:
        _store(module, scheme)
        yield module
    finally:
        with torch.no_grad():
            for weight, original in zip(weights, kept, strict=True):
                weight.copy_(original)


def quantised_copy(module: nn.Module, scheme: Scheme) -> nn.Module:
    """Return a quantised copy of a module, in the module's own dtype; it raises as :func:`quantised` does."""
    copied = copy.deepcopy(module)
    _store(copied, scheme)
    return copied


@torch.no_grad()
def _store(module: nn.Module, scheme: Scheme) -> None:
    for weight, transposed in _weights(module, scheme.scope):
        weight.copy_(scheme.stored(weight.T).T if transposed else scheme.stored(weight))


def _weights(module: Any, scope: Scope) -> list[tuple[Tensor, bool]]:
    """Parameters in scope, each once, and whether they are stored as [inputs, outputs] (GPT-2's Conv1D)."""
    if scope == "all":
        return [(parameter, False) for parameter in module.parameters()]
    experts = [name for name, weight in module.named_parameters() if "expert" in name and weight.ndim > 2]
    if experts:
        message = f"{experts[0]} holds several experts, which are not quantised; attack such a model by casts alone."
        raise FailedPrecondition(Reason.ATTACK_INVALID, message)
    embedding, head = _part(module, "get_input_embeddings"), _part(module, "get_output_embeddings")
    found: dict[int, tuple[Tensor, bool]] = {}
    for part in module.modules():
        if part is head and scope == "layers":
            continue
        transposed = type(part).__name__ == "Conv1D"
        if isinstance(part, nn.Linear) or transposed or (part is embedding and scope == "matrices"):
            found.setdefault(id(part.weight), (part.weight, transposed))
    return list(found.values())


def _part(module: Any, getter: str) -> nn.Module | None:
    return getattr(module, getter)() if hasattr(module, getter) else None
