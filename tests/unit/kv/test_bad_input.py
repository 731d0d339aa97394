"""Whatever cannot be coded or decoded is refused, with the class, the reason and the facts that a caller can act on."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import LlamaConfig

from palimpsest.errors import (
    DataLoss,
    FailedPrecondition,
    InvalidArgument,
    OutOfRange,
    PalimpsestError,
    ResourceExhausted,
    Unimplemented,
)
from palimpsest.kv import (
    CalibrationProfile,
    ChunkReader,
    Identity,
    KeyValues,
    Rotary,
    calibrate,
    decode,
    encode,
)
from palimpsest.kv.container import pack, unpack

from .conftest import ROTARY, make_cache
from .damaging import CODECS, Chunk, cases, good_chunks, same

NAN, INFINITY = float("nan"), float("inf")


@pytest.fixture(scope="module")
def chunks(profile) -> dict[str, Chunk]:
    return good_chunks(profile)


@pytest.fixture(scope="module")
def other(profile) -> CalibrationProfile:
    """A profile of the same geometry, without the classic tables."""
    return calibrate([make_cache(30), make_cache(31)], rotary=ROTARY, classic=False)


def refused(kind: type[PalimpsestError], reason: str, run) -> PalimpsestError:
    with pytest.raises(kind) as wrong:
        run()
    assert type(wrong.value) is kind
    assert wrong.value.reason == reason
    return wrong.value


KV = make_cache(4, 40)


@pytest.mark.parametrize(
    ("keys", "values", "start", "reason"),
    [
        (KV.keys[0], KV.values, 0, "KV_SHAPE"),
        (KV.keys, KV.values[0], 0, "KV_SHAPE"),
        (KV.keys[None], KV.values[None], 0, "KV_SHAPE"),
        (KV.keys[:3], KV.values, 0, "KV_SHAPE"),
        (KV.keys[:, :1], KV.values, 0, "KV_SHAPE"),
        (KV.keys[:, :, :9], KV.values, 0, "KV_SHAPE"),
        (KV.keys[:, :, :0], KV.values[:, :, :0], 0, "KV_SHAPE"),
        (KV.keys[:0], KV.values[:0], 0, "KV_SHAPE"),
        (KV.keys[..., :0], KV.values, 0, "KV_SHAPE"),
        (KV.keys, KV.values, -1, "KV_SHAPE"),
        (KV.keys.int(), KV.values.int(), 0, "KV_DTYPE"),
        (KV.keys.double(), KV.values.double(), 0, "KV_DTYPE"),
        (KV.keys.to(torch.float8_e4m3fn), KV.values.to(torch.float8_e4m3fn), 0, "KV_DTYPE"),
        (KV.keys.float(), KV.values, 0, "KV_DTYPE"),
    ],
)
def test_shapes_and_types_that_are_no_cache(keys, values, start, reason):
    refused(InvalidArgument, reason, lambda: KeyValues(keys, values, start))


def test_stretches_that_do_not_exist_or_do_not_join():
    refused(OutOfRange, "KV_RANGE", lambda: KV[40:])
    refused(OutOfRange, "KV_RANGE", lambda: KV[::2])
    refused(InvalidArgument, "KV_RANGE", lambda: KV.chunks(0))
    refused(InvalidArgument, "KV_RANGE", lambda: KeyValues.join(KV.chunks(20)[::-1]))
    refused(InvalidArgument, "KV_SHAPE", lambda: KeyValues.join([]))
    fewer = KeyValues(KV.keys[:3], KV.values[:3], 40)
    refused(InvalidArgument, "KV_SHAPE", lambda: KeyValues.join([KV, fewer]))


@pytest.mark.parametrize("codec", CODECS[:3])
@pytest.mark.parametrize("number", [NAN, INFINITY, -INFINITY, 1e30])
@pytest.mark.parametrize("component", [0, 1])
def test_numbers_that_only_lossless_carries(profile, codec, number, component):
    kv = KeyValues(KV.keys.clone(), KV.values.clone())
    kv.part(component)[3, 1, 39, 15] = number
    refused(InvalidArgument, "KV_NOT_FINITE", lambda: encode(kv, codec=codec, profile=profile))
    assert same(decode(encode(kv, levels=["lossless"])["lossless"]), kv)


def test_a_number_too_far_from_what_was_calibrated_is_refused_rather_than_clipped(profile):
    kv = KeyValues(KV.keys.clone(), KV.values.clone())
    kv.values[2, 0, 20, 3] = 1e13
    refused(InvalidArgument, "KV_NOT_FINITE", lambda: encode(kv, profile=profile))


@pytest.mark.parametrize("codec", CODECS[:3])
def test_the_largest_float16_do_not_come_back_as_infinity(profile, codec):
    kv = make_cache(4, 40, torch.float16)
    kv.keys[0, 0, 9, :], kv.values[0, 0, 9, :] = 65504, -65504
    for data in encode(kv, levels=["smallest", "high"], codec=codec, profile=profile, rotary=ROTARY).values():
        back = decode(data, profile=profile)
        assert bool(back.keys.isfinite().all() and back.values.isfinite().all())
        if codec != "transform":  # which leaves out directions in which no sample ever went
            assert float(back.values[0, 0, 9].float().max()) < -60_000


def test_levels_and_codecs_that_there_are_not(profile, other):
    for run in (
        lambda: encode(KV, levels=["finest"], profile=profile),
        lambda: encode(KV, levels=["balanced", "finest"], codec="classic", profile=profile),
        lambda: encode(KV, levels=["finest"], codec="generic"),
        lambda: encode(KV, levels=[], profile=profile),
        lambda: encode(KV, codec="zip", profile=profile),
        lambda: encode(KV, codec="", profile=profile),
    ):
        refused(InvalidArgument, "KV_LEVEL_UNKNOWN", run)
    refused(FailedPrecondition, "KV_PROFILE_MISSING", lambda: encode(KV))
    refused(FailedPrecondition, "KV_PROFILE_MISMATCH", lambda: encode(KV, codec="classic", profile=other))


def test_chunks_longer_or_further_on_than_a_header_can_say(profile):
    far = KeyValues(KV.keys, KV.values, (1 << 30) + 1)
    refused(InvalidArgument, "KV_RANGE", lambda: encode(far, profile=profile))
    long = torch.zeros(1, 1, (1 << 20) + 1, 1)
    refused(InvalidArgument, "KV_RANGE", lambda: encode(KeyValues(long, long), codec="generic"))
    deep = torch.zeros(4097, 1, 1, 1)
    refused(InvalidArgument, "KV_RANGE", lambda: encode(KeyValues(deep, deep), levels=["lossless"]))


def test_caches_that_were_computed_with_gradients_are_coded(profile):
    kv = KeyValues(KV.keys.clone().requires_grad_(), KV.values.clone().requires_grad_())
    for codec in CODECS[:3]:
        levels = ["balanced", "lossless"]
        assert encode(kv, levels=levels, codec=codec, profile=profile) == encode(
            KV, levels=levels, codec=codec, profile=profile
        )


@pytest.mark.parametrize(
    "other_shape",
    [
        KeyValues(KV.keys[:3], KV.values[:3]),
        KeyValues(KV.keys[:, :1], KV.values[:, :1]),
        KeyValues(KV.keys[..., :8], KV.values),
        KeyValues(KV.keys.reshape(4, 1, 40, 32), KV.values.reshape(4, 1, 40, 32)),
    ],
    ids=["layers", "heads", "key_dim", "heads joined"],
)
@pytest.mark.parametrize("codec", ["transform", "classic"])
def test_a_profile_of_another_shape(profile, codec, other_shape):
    refused(
        FailedPrecondition, "KV_PROFILE_MISMATCH", lambda: encode(other_shape, codec=codec, profile=profile)
    )


@pytest.mark.parametrize("codec", ["transform", "classic"])
def test_another_profile_or_none(chunks, profile, other, codec):
    data = chunks[codec].data
    wrong = refused(FailedPrecondition, "KV_PROFILE_MISMATCH", lambda: decode(data, profile=other))
    assert wrong.metadata == {"found": profile.id, "expected": other.id}
    missing = refused(FailedPrecondition, "KV_PROFILE_MISSING", lambda: decode(data))
    assert missing.metadata == {"profile": profile.id}
    # A header that names no profile is not a licence to take any.
    unnamed = pack(chunks[codec].meta.model_copy(update={"profile": ""}), chunks[codec].sections)
    refused(FailedPrecondition, "KV_PROFILE_MISMATCH", lambda: decode(unnamed, profile=profile))


@pytest.mark.parametrize("field", ["model", "tokenizer", "prefix"])
@pytest.mark.parametrize("codec", CODECS)
def test_another_model_tokenizer_or_prefix(profile, codec, field):
    mine = Identity(model="m", tokenizer="t", prefix="p")
    level, name = ("lossless", "generic") if codec == "lossless" else ("balanced", codec)
    data = encode(KV, levels=[level], codec=name, profile=profile, identity=mine)[level]
    assert decode(data, profile=profile, identity=mine).tokens == 40
    for value in ("other", ""):
        theirs = mine.model_copy(update={field: value})
        wrong = refused(
            FailedPrecondition,
            "KV_IDENTITY_MISMATCH",
            lambda theirs=theirs: decode(data, profile=profile, identity=theirs),
        )
        assert wrong.metadata["field"] == field
    anonymous = encode(KV, levels=[level], codec=name, profile=profile)[level]
    refused(
        FailedPrecondition, "KV_IDENTITY_MISMATCH", lambda: decode(anonymous, profile=profile, identity=mine)
    )


# Rotary embeddings


@pytest.mark.parametrize("turn", [Rotary(), Rotary("half", 500.0), ROTARY, Rotary("half", 5e6)])
def test_keys_come_back_right_whatever_rotary_they_were_coded_with(turn):
    """Un-rotating and rotating again is the identity: a wrong guess costs bytes, never truth."""
    data = encode(KV, levels=["near-lossless"], codec="generic", rotary=turn)["near-lossless"]
    error = decode(data).keys.float() - KV.keys.float()
    spread = (KV.keys.float() - KV.keys.float().mean(2, keepdim=True))[:, :, 4:].std()
    assert float(error[:, :, 4:].square().mean().sqrt()) < 0.15 * float(spread)


@pytest.mark.parametrize("change", [{"theta": 500.0}, {"rotary": "none"}])
@pytest.mark.parametrize("codec", ["transform", "classic"])
def test_a_chunk_that_was_rotated_otherwise_than_its_profile(chunks, profile, codec, change):
    forged = pack(chunks[codec].meta.model_copy(update=change), chunks[codec].sections)
    refused(FailedPrecondition, "KV_PROFILE_MISMATCH", lambda: decode(forged, profile=profile))


@pytest.mark.parametrize(
    "parameters",
    [
        {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0},
        {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 4.0},
        {"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0},
        {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5},
        {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [8, 12, 12]},
    ],
    ids=["yarn", "dynamic", "linear", "partial", "several axes"],
)
def test_rotary_embeddings_that_are_not_known_are_coded_as_they_are(parameters):
    config = LlamaConfig(hidden_size=64, num_attention_heads=4)
    config.rope_parameters = parameters
    assert Rotary.of(config) == Rotary()


def test_rotary_embeddings_that_cannot_be():
    for run in (lambda: Rotary("odd"), lambda: Rotary("half", 1.0), lambda: Rotary("half", NAN)):
        refused(InvalidArgument, "KV_ROTARY", run)
    odd = KeyValues(KV.keys[..., :15].contiguous(), KV.values)
    refused(InvalidArgument, "KV_ROTARY", lambda: encode(odd, codec="generic", rotary=ROTARY))
    even = encode(odd, codec="generic")["balanced"]
    meta, sections = unpack(even)
    forged = pack(meta.model_copy(update={"rotary": "half"}), sections)
    refused(DataLoss, "KV_DAMAGED", lambda: decode(forged))


# Streams


def test_what_is_no_chunk_or_a_newer_one(chunks):
    chunk = chunks["generic"]
    for nothing in (b"", b"\x89PLKV"):
        refused(DataLoss, "KV_DAMAGED", lambda data=nothing: decode(data))
    refused(InvalidArgument, "KV_FORMAT_UNKNOWN", lambda: decode(b"\x89PNG\r\n\x1a\n" + chunk.data[8:]))
    newer = chunk.data[:8] + b"\2" + chunk.data[9:]
    refused(Unimplemented, "KV_FORMAT_UNKNOWN", lambda: decode(newer))
    needs = pack(chunk.meta.model_copy(update={"requires": ["holography"]}), chunk.sections)
    wrong = refused(Unimplemented, "KV_FORMAT_UNKNOWN", lambda: decode(needs))
    assert wrong.metadata["requires"] == "holography"
    # What is required may be a codec that this reader's header does not know; that is not damage.
    strange = chunk.meta.model_copy(update={"requires": ["wavelets"], "codec": "wavelets"})
    refused(Unimplemented, "KV_FORMAT_UNKNOWN", lambda: decode(pack(strange, chunk.sections)))
    refused(
        DataLoss,
        "KV_DAMAGED",
        lambda: decode(pack(chunk.meta.model_copy(update={"codec": "wavelets"}), chunk.sections)),
    )


@pytest.mark.parametrize("codec", CODECS)
def test_damage_says_where(chunks, profile, codec):
    chunk = chunks[codec]
    entry = chunk.header.entries[-1]
    bad = bytearray(chunk.data)
    bad[entry.offset + 1] ^= 16
    wrong = refused(DataLoss, "KV_DAMAGED", lambda: decode(bytes(bad), profile=profile))
    assert wrong.metadata["offset"] == str(entry.offset)
    cut = refused(DataLoss, "KV_DAMAGED", lambda: decode(chunk.data[:-20], profile=profile))
    assert 0 < int(cut.metadata["offset"]) <= len(chunk.data)


@pytest.mark.parametrize("codec", CODECS)
def test_limits_hold_and_can_be_set(chunks, profile, codec):
    chunk = chunks[codec]
    wanted = chunk.meta.decoded_bytes
    wrong = refused(
        ResourceExhausted,
        "KV_TOO_LARGE",
        lambda: decode(chunk.data, profile=profile, decoded_limit=wanted - 1),
    )
    assert wrong.metadata["decoded_bytes"] == str(wanted)
    assert decode(chunk.data, profile=profile, decoded_limit=wanted).tokens == chunk.kv.tokens
    refused(ResourceExhausted, "KV_TOO_LARGE", lambda: decode(chunk.data, profile=profile, expansion_limit=0))


@given(codec=st.sampled_from(CODECS), data=st.data())
@cases(120)
def test_a_reader_gives_the_same_layers_however_its_bytes_come(chunks, codec, data):
    chunk = chunks[codec]
    whole = ChunkReader(profile=chunk.profile)
    expected = list(whole.feed(chunk.data))
    if data.draw(st.booleans(), label="byte by byte"):
        cuts = range(len(chunk.data) + 1)
    else:
        places = data.draw(st.lists(st.integers(0, len(chunk.data)), max_size=12))
        cuts = [0, *sorted(places), len(chunk.data)]
    reader, seen = ChunkReader(profile=chunk.profile), []
    for first, last in pairwise(cuts):
        for layers in reader.feed(memoryview(chunk.data)[first:last]):
            assert reader.kv is not None
            assert reader.kv.keys[:layers].equal(chunk.kv.keys[:layers])
            assert reader.kv.values[:layers].equal(chunk.kv.values[:layers])
            seen.append(layers)
    assert seen == sorted(set(seen))
    assert set(seen) >= set(expected)
    assert seen[-1] == 4
    assert same(reader.finish(), chunk.kv)


# Profiles


def test_calibration_that_has_too_little():
    refused(InvalidArgument, "KV_CALIBRATION", lambda: calibrate([], rotary=ROTARY))
    refused(InvalidArgument, "KV_CALIBRATION", lambda: calibrate([make_cache(1, 3)], rotary=ROTARY))


@pytest.mark.parametrize("part", ["kept", "centres", "frequencies", "step", "group", "classic mean"])
def test_profiles_whose_parts_do_not_fit(profile, part):
    import json

    from safetensors.torch import load, save

    raw = profile.to_bytes()
    length = int.from_bytes(raw[:8], "little")
    facts = json.loads(json.loads(raw[8 : 8 + length])["__metadata__"]["palimpsest.kv.profile"])
    tensors = load(raw)
    if part == "kept":  # fits the widest group, not the last one
        tensors["level.0.kept"] = torch.full_like(tensors["level.0.kept"], 3 * 32)
    elif part == "centres":
        tensors["level.0.centres"][3, 3] = NAN
    elif part == "frequencies":  # a symbol that takes no bits would make bombs of a few bytes
        table = torch.zeros(tensors["level.0.frequencies"].shape, dtype=torch.int32)
        table[:, 128] = 4096
        tensors["level.0.frequencies"] = table.to(torch.uint16)
    elif part == "step":
        facts["levels"][0][1] = INFINITY
    elif part == "group":
        facts["group"] = 0
    else:
        tensors["classic.mean"] = tensors["classic.mean"][:, :2].contiguous()
    bad = save(tensors, {"palimpsest.kv.profile": json.dumps(facts)})
    refused(InvalidArgument, "KV_PROFILE_INVALID", lambda: CalibrationProfile.from_bytes(bad))
