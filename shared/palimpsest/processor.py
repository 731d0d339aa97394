"""What this processor multiplies by itself, asked of the processor and never timed."""

import platform
from collections.abc import Mapping
from functools import cache

import torch


@cache
def bfloat16_products() -> bool:
    """Whether it multiplies bfloat16 matrices itself, and so faster than float32 ones."""
    known = _capabilities()
    return bool(known.get("avx512_bf16") or known.get("amx_bf16"))


@cache
def bfloat16_tiles() -> bool:
    """Whether it multiplies whole tiles of bfloat16 (AMX)."""
    return bool(_capabilities().get("amx_bf16"))


def _capabilities() -> Mapping[str, object]:
    return torch.cpu.get_capabilities() if platform.machine() in ("x86_64", "AMD64") else {}
