"""The same drafts by every kind of forward pass, in float32 and in bfloat16."""

import pytest

from palimpsest import lm
from palimpsest.decoding.drafts import DraftSettings, DraftStrategy
from palimpsest.lm import LanguageModel, Sampling
from palimpsest.lm import model as loading

from .plain import Plain
from .running import PROMPTS, prompt, run, wanted


def load(path, kind: str, dtype: str) -> LanguageModel:
    with pytest.MonkeyPatch.context() as patch:
        if kind == "transformers":
            patch.setattr(loading, "is_llama_shaped", lambda module: False)
        if kind == "fused":
            patch.setattr(loading, "_can_compile", lambda weights: False)
        if kind == "recompute":
            patch.setattr(loading, "is_llama_shaped", lambda module: False)
            patch.setattr(loading.LanguageModel, "_agrees", lambda *_: False)
        model = lm.load(path, "cpu", dtype, threads=1, cache_bytes=8 << 20)
    assert model.forward_kind == ("transformers" if kind == "recompute" else kind)
    return model


@pytest.fixture(scope="module", params=["fused", "transformers", "recompute"])
def kind(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def single(tiny_model, kind) -> LanguageModel:
    return load(tiny_model, kind, "float32")


@pytest.fixture(scope="module")
def half(tiny_model, kind) -> LanguageModel:
    return load(tiny_model, kind, "bfloat16")


@pytest.mark.parametrize("strategy", list(DraftStrategy))
@pytest.mark.parametrize("every", [0, 2])
def test_in_float32_they_are_those_of_the_compiled_pass(single, tiny, store, strategy, every):
    every = every if strategy.superposes else 0
    chosen = DraftSettings(k=3, strategy=strategy, alpha=0.3, reset_every=every, exact=True)
    for text in PROMPTS[:3]:
        ids = prompt(tiny, text)
        request = wanted(ids, chosen, 8, {"store": store}, sampling=Sampling(0.8, seed=3))
        (one,), (other,) = run(single, request), run(tiny, request)
        assert one.ids == other.ids
        assert (one.end.steps, one.end.positions) == (other.end.steps, other.end.positions)
        for a, b in zip(one.drafts, other.drafts, strict=True):
            assert a.logprobs == pytest.approx(b.logprobs, abs=1e-4)


@pytest.mark.parametrize("strategy", list(DraftStrategy))
def test_in_bfloat16_log_probabilities_are_the_models_own(half, store, strategy):
    chosen = DraftSettings(k=3, strategy=strategy, alpha=0.3, exact=True)
    for text in PROMPTS[:2]:
        ids = prompt(half, text)
        request = wanted(ids, chosen, 8, {"store": store}, sampling=Sampling(0.8, seed=3))
        (told,) = run(half, request)
        assert told.drafts
        for draft in told.drafts:
            assert draft.logprobs == pytest.approx(Plain(half, ids).exact(draft.ids), abs=0.3)
