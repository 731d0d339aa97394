"""Chunks to bytes and back: every codec, level, type and length, and what must be refused."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, DynamicCache

from palimpsest.errors import InvalidArgument
from palimpsest.kv import (
    LEVELS,
    CalibrationProfile,
    ChunkReader,
    KeyValues,
    Rotary,
    calibrate,
    decode,
    encode,
    from_cache,
    read_header,
    to_cache,
)
from palimpsest.kv.header import Kind
from palimpsest.kv.sensitivity import measure
from palimpsest.kv.transform import coefficients

from .conftest import ROTARY, make_cache


def noise(kv: KeyValues, other: KeyValues, first: int = 4) -> float:
    """Mean square error of all but the sinks, over the variance."""
    error = torch.cat(
        [
            (a.float() - b.float())[:, :, first:].flatten()
            for a, b in ((kv.keys, other.keys), (kv.values, other.values))
        ]
    )
    signal = torch.cat([part.float()[:, :, first:].flatten() for part in (kv.keys, kv.values)])
    return float(error.square().mean() / signal.var())


@pytest.mark.parametrize("codec", ["transform", "classic", "generic"])
def test_finer_levels_are_larger_and_closer(codec, profile):
    kv = make_cache(50, 200)
    coded = encode(kv, levels=list(LEVELS), codec=codec, profile=profile, rotary=ROTARY)
    sizes = [len(coded[name]) for name in LEVELS]
    errors = [noise(kv, decode(coded[name], profile=profile)) for name in LEVELS]
    assert sizes == sorted(sizes, reverse=True)
    assert errors == sorted(errors)
    assert errors[0] < 0.02
    assert sizes[-1] < 0.25 * 2 * kv.keys.numel() * 2


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_lossless_brings_back_every_bit(dtype):
    kv = make_cache(3, 70, dtype)
    kv.keys[1, 0, 5, 3], kv.keys[2, 1, 6, 0], kv.values[0, 0, 0, 0] = float("inf"), float("nan"), -0.0
    kv.values[3, 1, 69] = 0
    kv.values[2, 0, 7, 7] = 1e-30
    data = encode(kv, levels=["lossless"])["lossless"]
    back = decode(data)
    integer = torch.int32 if dtype is torch.float32 else torch.int16
    assert back.keys.view(integer).equal(kv.keys.view(integer))
    assert back.values.view(integer).equal(kv.values.view(integer))


def test_float32_out_of_a_bfloat16_model_costs_no_more_than_bfloat16():
    kv = make_cache(3, 256)
    wide = KeyValues(kv.keys.float(), kv.values.float())
    narrow, broad = (encode(each, levels=["lossless"])["lossless"] for each in (kv, wide))
    assert len(broad) < 1.01 * len(narrow)
    assert decode(broad).keys.equal(wide.keys)


@given(
    tokens=st.integers(1, 40),
    start=st.integers(0, 300),
    codec=st.sampled_from(["transform", "classic", "generic"]),
    float32=st.booleans(),
)
@settings(max_examples=25, deadline=None)
def test_any_length_and_position_survives(profile, tokens, start, codec, float32):
    kv = make_cache(tokens, tokens, torch.float32 if float32 else torch.bfloat16)
    moved = KeyValues(
        ROTARY.turn(ROTARY.turn(kv.keys, 0, back=True), start, back=False).to(kv.keys.dtype), kv.values, start
    )
    data = encode(moved, codec=codec, profile=profile, rotary=ROTARY)["balanced"]
    back = decode(data, profile=profile)
    assert (back.start, back.tokens, back.keys.dtype) == (start, tokens, kv.keys.dtype)
    assert bool(back.keys.isfinite().all())
    if start == 0 and tokens > 10:
        assert noise(moved, back) < 0.1


def test_chunks_join_to_the_whole_and_no_tail_is_lost(profile):
    kv = make_cache(1, 90)
    parts = kv.chunks(40)
    assert [part.tokens for part in parts] == [40, 40, 10]
    coded = [encode(part, profile=profile)["balanced"] for part in parts]
    back = KeyValues.join([decode(data, profile=profile) for data in coded])
    assert noise(kv, back) < 0.1
    assert [read_header(data).meta.sinks for data in coded] == [4, 0, 0]
    with pytest.raises(InvalidArgument):
        KeyValues.join(parts[::-1])


def test_the_first_layers_are_ready_before_the_last_have_come(profile):
    kv = make_cache(2, 60)
    data = encode(kv, levels=["high"], profile=profile)["high"]
    whole = decode(data, profile=profile)
    reader, seen = ChunkReader(profile=profile), []
    for at in range(0, len(data), 97):
        for layers in reader.feed(data[at : at + 97]):
            assert reader.kv is not None
            assert reader.kv.keys[:layers].equal(whole.keys[:layers])
            seen.append((layers, at / len(data)))
    assert [layers for layers, _ in seen] == [3, 4]
    assert seen[0][1] < 0.9
    assert reader.finish().values.equal(whole.values)


def test_threads_change_nothing(profile):
    kv = make_cache(2, 60)
    one, two = (encode(kv, levels=["high", "lossless"], profile=profile, threads=n) for n in (1, 2))
    assert one == two
    assert decode(one["high"], profile=profile, threads=2).keys.equal(
        decode(one["high"], profile=profile).keys
    )


def test_a_profile_comes_back_from_its_bytes_with_its_id(profile):
    again = CalibrationProfile.from_bytes(profile.to_bytes())
    assert again.id == profile.id
    kv = make_cache(9, 30)
    for codec in ("transform", "classic"):
        assert encode(kv, codec=codec, profile=again) == encode(kv, codec=codec, profile=profile)


@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_a_damaged_profile_is_refused_or_has_another_id(profile, data):
    raw = bytearray(profile.to_bytes())
    at = data.draw(st.integers(0, min(len(raw), 6000) - 1))
    raw[at] ^= 1 << data.draw(st.integers(0, 7))
    try:
        other = CalibrationProfile.from_bytes(bytes(raw))
    except InvalidArgument:
        return
    assert other.id != profile.id or other.to_bytes() == profile.to_bytes()


@pytest.mark.parametrize("codec", ["transform", "classic", "generic"])
def test_sections_record_the_error_they_were_coded_with(profile, codec):
    kv = make_cache(6, 120, torch.float32)
    coded = encode(kv, levels=["near-lossless", "smallest"], codec=codec, profile=profile, rotary=ROTARY)
    fine, coarse = (read_header(data).entries for data in coded.values())
    for a, b in zip(fine, coarse, strict=True):
        assert 0 < a.error < a.worst
        assert (a.error == b.error) if a.kind is Kind.SINKS else (a.error < b.error < b.worst)
    if codec == "transform":
        return  # measured in weighted coefficients, not in keys and values
    back = decode(coded["smallest"], profile=profile)
    for entry in coarse:
        if entry.kind is Kind.SINKS:
            continue
        component = 0 if entry.kind is Kind.KEYS else 1
        layers = slice(entry.first_layer, entry.first_layer + entry.layers)
        away = (kv.part(component) - back.part(component))[layers, :, 4:]
        # Turning keys back keeps the root mean square but not the largest.
        assert float(away.square().mean().sqrt()) == pytest.approx(entry.error, rel=2e-3)
        if component == 1 or codec == "classic":
            assert float(away.abs().max()) == pytest.approx(entry.worst, rel=2e-3)


def test_the_transform_codec_records_the_error_of_its_coefficients(profile):
    kv = make_cache(6, 120, torch.float32)
    data = encode(kv, levels=["compact"], profile=profile)["compact"]
    back = decode(data, profile=profile)
    for entry in read_header(data).entries:
        if entry.kind is Kind.SINKS:
            continue
        component, group = (0 if entry.kind is Kind.KEYS else 1), int(entry.first_layer > 0)
        one, two = (coefficients(part[4:], profile, component, group) for part in (kv, back))
        assert np.sqrt(np.square(one - two).mean()) == pytest.approx(entry.error, rel=1e-2)
        assert np.abs(one - two).max() == pytest.approx(entry.worst, rel=1e-2)


def test_lossless_records_no_error():
    header = read_header(encode(make_cache(6), levels=["lossless"])["lossless"])
    assert {(entry.error, entry.worst) for entry in header.entries} == {(0.0, 0.0)}


def test_a_real_cache_goes_through_and_generation_goes_on(tiny_model):
    model = AutoModelForCausalLM.from_pretrained(tiny_model).eval()
    rotary = Rotary.of(model.config)
    assert rotary == Rotary("half", 10_000.0)
    texts = [
        torch.randint(3, 250, (120,), generator=torch.Generator().manual_seed(n)).tolist() for n in range(4)
    ]
    sensitivity = measure(model, texts, rotary=rotary, continuation=40)
    caches = []
    for ids in texts:
        with torch.no_grad():
            caches.append(from_cache(model(torch.tensor([ids]), use_cache=True).past_key_values))
    fitted = calibrate(caches, rotary=rotary, sensitivity=sensitivity, group=2)
    ids = torch.randint(3, 250, (1, 120), generator=torch.Generator().manual_seed(9))
    with torch.no_grad():
        cache = model(ids[:, :80], use_cache=True).past_key_values
        kv = from_cache(cache)
        exact = model(ids[:, 80:], past_key_values=to_cache(kv, model.config)).logits.log_softmax(-1)
        for level in ("lossless", "near-lossless"):
            back = decode(encode(kv, levels=[level], profile=fitted)[level], profile=fitted)
            rebuilt = to_cache(back, model.config)
            assert isinstance(rebuilt, DynamicCache)
            assert rebuilt.get_seq_length() == 80
            found = model(ids[:, 80:], past_key_values=rebuilt).logits.log_softmax(-1)
            divergence = float((exact.exp() * (exact - found)).sum(-1).mean())
            assert divergence < (1e-6 if level == "lossless" else 0.05)


def test_a_profile_of_fewer_layers_than_a_group_comes_back():
    profile = calibrate([make_cache(seed) for seed in range(3)], rotary=ROTARY, group=9, classic=False)
    again = CalibrationProfile.from_bytes(profile.to_bytes())
    kv = make_cache(9, 30)
    assert encode(kv, profile=again) == encode(kv, profile=profile)
