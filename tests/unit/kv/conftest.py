"""Small caches with structure worth coding, and a profile calibrated on some of them."""

from collections.abc import Callable

import pytest
import torch

from palimpsest.kv import CalibrationProfile, KeyValues, Rotary, calibrate

LAYERS, HEADS, DIM = 4, 2, 16
ROTARY = Rotary("half", 10_000.0)


def make_cache(seed: int, tokens: int = 96, dtype: torch.dtype = torch.bfloat16) -> KeyValues:
    """Low-rank signal, static means, a loud first token: what real caches have, in small."""
    mixing = torch.randn(12, LAYERS * 2 * HEADS * DIM, generator=torch.Generator().manual_seed(7))
    mean = torch.randn(LAYERS * 2 * HEADS * DIM, generator=torch.Generator().manual_seed(8)) * 3
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(tokens, 12, generator=draw) @ mixing + 0.1 * torch.randn(
        tokens, mixing.shape[1], generator=draw
    )
    x += mean
    x[0] *= 20
    x = x.view(tokens, LAYERS, 2, HEADS, DIM).permute(2, 1, 3, 0, 4)
    return KeyValues(ROTARY.turn(x[0], 0, back=False).to(dtype), x[1].contiguous().to(dtype))


def equal_tokens(tokens: int = 128) -> KeyValues:
    """One ordinary token over and over."""
    one = make_cache(70)[20:21]
    keys = ROTARY.turn(one.keys, one.start, back=True).expand(-1, -1, tokens, -1)
    values = one.values.expand(-1, -1, tokens, -1).contiguous()
    return KeyValues(ROTARY.turn(keys, 512, back=False).bfloat16(), values, 512)


@pytest.fixture(scope="session")
def cache() -> Callable[..., KeyValues]:
    return make_cache


@pytest.fixture(scope="session")
def profile() -> CalibrationProfile:
    torch.set_num_threads(1)
    return calibrate([make_cache(seed) for seed in range(4)], rotary=ROTARY, model="tiny", group=3)
