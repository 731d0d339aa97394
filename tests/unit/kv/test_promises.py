"""What is told of a coded chunk's loss, and who codes a chunk that its level would harm."""

import pytest
import torch

from palimpsest.kv import LEVELS, KeyValues, Rotary, decode, encode
from palimpsest.kv.promises import CAPS, Estimates, keep

from .conftest import equal_tokens, make_cache

MEANS = {
    (codec, level): nats for codec in ("transform", "generic", "classic") for level, nats in LEVELS.items()
}


def told(value: float):
    return lambda kv, forms: [value] * len(forms)


def test_ordinary_chunks_are_coded_by_their_level(profile):
    kv = make_cache(60, 128)
    kept = keep(kv, Estimates(MEANS, profile), levels=list(LEVELS), codec="transform", profile=profile)
    plain = encode(kv, levels=list(LEVELS), profile=profile)
    assert {level: each.data for level, each in kept.items()} == plain
    assert {level: each.stored_level for level, each in kept.items()} == {level: level for level in LEVELS}
    losses = [each.loss for each in kept.values()]
    assert losses == sorted(losses)
    assert losses[0] > LEVELS["near-lossless"], "a bound, not the mean"


def test_equal_tokens_are_not_coded_by_a_profile_that_rounds_them_all_alike(profile):
    kv = equal_tokens()
    by_profile = decode(encode(kv, profile=profile)["balanced"], profile=profile)
    kept = keep(kv, Estimates(MEANS, profile), levels=["balanced"], codec="transform", profile=profile)[
        "balanced"
    ]
    assert kept.stored_level == "generic balanced"
    assert kept.loss <= CAPS["balanced"]

    def common(back: KeyValues) -> float:
        """What the errors of all tokens have in common: attention does not average it out."""
        return float((back.values.float() - kv.values.float()).mean(2).norm())

    assert common(decode(kept.data)) < 0.02 * common(by_profile)


def test_a_level_that_loses_too_much_is_filled_by_a_finer_coder(profile):
    kv = make_cache(61, 64)

    def losses(_: KeyValues, forms):
        return [0.001 if (each.codec, each.level) == ("transform", "high") else 9.0 for each in forms]

    kept = keep(
        kv, losses, levels=["near-lossless", "balanced", "lossless"], codec="transform", profile=profile
    )
    assert kept["balanced"].stored_level == "high"
    assert kept["balanced"].data == encode(kv, levels=["high"], profile=profile)["high"]
    assert [kept[level].stored_level for level in ("near-lossless", "lossless")] == ["lossless"] * 2
    assert kept["near-lossless"].loss == 0
    assert decode(kept["near-lossless"].data).keys.equal(kv.keys)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 5.0])
def test_what_cannot_be_vouched_for_is_kept_without_loss(value):
    kv = make_cache(62, 32)
    kept = keep(kv, told(value), levels=["smallest"], codec="generic")["smallest"]
    assert (kept.stored_level, kept.loss) == ("lossless", 0.0)


def test_elements_too_far_apart_for_a_levels_cells_are_kept_by_another_coder(profile):
    kv = make_cache(63, 64, torch.float32)
    kv.values[1, 0, 30, 2] = 1e14
    kept = keep(kv, told(0.0), levels=["near-lossless"], codec="transform", profile=profile)["near-lossless"]
    assert kept.stored_level != "near-lossless"
    back = decode(kept.data, profile=profile)
    assert float(back.values[1, 0, 30, 2]) == pytest.approx(1e14, rel=1e-3)


@pytest.mark.parametrize("times", [100.0, 1000.0])
@pytest.mark.parametrize("component", [0, 1])
def test_a_loud_channel_does_not_erase_its_layer(times, component):
    kv = make_cache(64, 128)
    plain = KeyValues(kv.keys.clone(), kv.values.clone())
    loud = KeyValues(kv.keys.clone(), kv.values.clone())
    loud.part(component)[2, 1, :, 3] *= times

    def error(source: KeyValues) -> torch.Tensor:
        """Root mean square error of the other channels of the loud one's layer."""
        back = decode(encode(source, codec="generic", rotary=Rotary())["balanced"])
        away = (back.part(component)[2].float() - source.part(component)[2].float())[:, 4:]
        away[1, :, 3] = 0
        return away.square().mean().sqrt()

    assert error(loud) < 1.2 * error(plain)
