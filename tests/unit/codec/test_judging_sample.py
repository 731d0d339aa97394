"""Line breaks by the hundred, under the real model and a profile that has never seen the like."""

from pydoc_data.topics import topics

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from palimpsest.engine import Engine
from palimpsest.kv import KeyValues, Rotary, calibrate, decode, encode, from_cache, to_cache
from palimpsest.kv.promises import CAPS, Coded, Estimates, keep
from palimpsest.lm import load
from services.codec.coding import PLAIN_LOSSES
from services.codec.judging import QUESTION, Judge

BREAKS, TOKENS = 320, 256
MEANS = {(codec, level): loss for codec in ("generic", "transform") for level, loss in PLAIN_LOSSES.items()}


@pytest.mark.model
def test_line_breaks_are_not_stored_as_good_where_they_are_not(sample_model):
    model = AutoModelForCausalLM.from_pretrained(sample_model, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(sample_model)
    rotary = Rotary.of(model.config)

    def ids_of(text: str) -> list[int]:
        return tokenizer(text, add_special_tokens=False).input_ids

    @torch.no_grad()
    def cache_of(ids: list[int]) -> KeyValues:
        return from_cache(model(torch.tensor([ids]), use_cache=True).past_key_values)

    @torch.no_grad()
    def predictions(kv: KeyValues, ids: list[int]) -> torch.Tensor:
        return (
            model(torch.tensor([ids]), past_key_values=to_cache(kv, model.config)).logits[0].log_softmax(-1)
        )

    manual = ids_of(topics["typesseq"])
    samples = [cache_of(manual[at : at + TOKENS]) for at in (0, TOKENS, 2 * TOKENS)]
    profile = calibrate(samples, rotary=rotary, group=1, classic=False)
    ids = tokenizer("\n").input_ids[:1] * BREAKS
    exact = cache_of(ids)
    asked = ids_of("What is the capital of France? The capital of France is Paris.")
    wanted = predictions(exact, asked)

    def lost(kv: KeyValues) -> float:
        return float((wanted.exp() * (wanted - predictions(kv, asked))).sum(-1).mean())

    by_profile = decode(encode(exact, profile=profile)["balanced"], profile=profile)
    assert lost(by_profile) > 0.1, "ten times what the level is meant for"
    engine = Engine(load(sample_model, "cpu", "float32", threads=1, cache_bytes=128 << 20))
    try:
        judge = Judge(engine, ids, ids_of(QUESTION), BREAKS, lambda: None)
        [told] = judge(exact, [Coded("transform", "balanced", b"", by_profile)])
        assert told > CAPS["balanced"]
        for losses in (judge, Estimates(MEANS, profile)):
            kept = keep(exact, losses, levels=["balanced"], codec="transform", profile=profile, rotary=rotary)
            each = kept["balanced"]
            assert each.stored_level != "balanced"
            assert lost(decode(each.data, profile=profile)) <= each.loss + 1e-5
            assert each.loss <= CAPS["balanced"]
    finally:
        engine.close()
