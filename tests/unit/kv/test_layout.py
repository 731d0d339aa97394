"""Caches of transformers: which can be taken apart, and that they come together again."""

import pytest
import torch
from transformers import DynamicCache, LlamaConfig, StaticCache
from transformers.cache_utils import (
    DynamicLayer,
    DynamicSlidingWindowLayer,
    LinearAttentionLayer,
    QuantizedLayer,
)

from palimpsest.errors import InvalidArgument, PalimpsestError, Unimplemented
from palimpsest.kv import decode, encode, from_cache, to_cache


def refused(kind: type[PalimpsestError], reason: str, run) -> None:
    with pytest.raises(kind) as wrong:
        run()
    assert wrong.value.reason == reason


def filled(layer, heads: int = 2, tokens: int = 6):
    layer.update(torch.ones(2, heads, tokens, 8), torch.ones(2, heads, tokens, 8))
    return layer


def cache_of(*layers) -> DynamicCache:
    cache = DynamicCache()
    cache.layers = list(layers)
    return cache


class Packed(QuantizedLayer):
    """The least that makes transformers' quantised layer a real one."""

    def _quantize(self, tensor, axis):
        return tensor

    def _dequantize(self, q_tensor):
        return q_tensor


def test_layers_that_do_not_keep_all_positions():
    window = DynamicSlidingWindowLayer(sliding_window=4)
    for layer in (filled(window), filled(Packed()), LinearAttentionLayer()):
        refused(
            Unimplemented,
            "KV_LAYER_UNSUPPORTED",
            lambda layer=layer: from_cache(cache_of(filled(DynamicLayer()), layer)),
        )
    config = LlamaConfig(num_hidden_layers=2, hidden_size=64, num_attention_heads=4)
    refused(Unimplemented, "KV_LAYER_UNSUPPORTED", lambda: from_cache(StaticCache(config, max_cache_len=8)))


def test_caches_that_are_empty_or_uneven_and_rows_that_there_are_not():
    refused(InvalidArgument, "KV_SHAPE", lambda: from_cache(DynamicCache()))
    refused(InvalidArgument, "KV_SHAPE", lambda: from_cache(cache_of(DynamicLayer())))
    uneven = cache_of(filled(DynamicLayer()), filled(DynamicLayer(), heads=4))
    refused(InvalidArgument, "KV_SHAPE", lambda: from_cache(uneven))
    cache = cache_of(filled(DynamicLayer()), filled(DynamicLayer()))
    for row in (-1, 2):
        refused(InvalidArgument, "KV_RANGE", lambda row=row: from_cache(cache, row))


def test_each_row_of_a_batch_is_its_own_context():
    cache = DynamicCache()
    numbers = torch.arange(2 * 2 * 3 * 4, dtype=torch.float32).view(2, 2, 3, 4)
    cache.update(numbers, -numbers, 0)
    for row in (0, 1):
        kv = from_cache(cache, row)
        assert kv.keys[0].equal(numbers[row])
        back = to_cache(decode(encode(kv, levels=["lossless"])["lossless"]))
        assert from_cache(back).values[0].equal(-numbers[row])
