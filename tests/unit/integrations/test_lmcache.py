"""The LMCache plug-in against its published interface, and against the package where it is installed."""

import importlib.util
import inspect
import select
import subprocess
import sys
import types

import pytest
import torch

from palimpsest.errors import (
    DataLoss,
    FailedPrecondition,
    InvalidArgument,
    ResourceExhausted,
    Unimplemented,
)
from palimpsest.integrations import lmcache
from palimpsest.integrations.coding import Coding
from palimpsest.integrations.lmcache import PalimpsestDeserializer, PalimpsestSerializer
from palimpsest.kv import KeyValues, Rotary, calibrate, encode, read_header

from ..kv.conftest import DIM, HEADS, LAYERS, ROTARY, equal_tokens, make_cache
from . import lmcache_published as published
from .lmcache_published import MemoryLayoutDesc, ObjectKey, TensorMemoryObj

INSTALLED = importlib.util.find_spec("lmcache") is not None
KEY = ObjectKey(b"\1" * 32, "tiny", 0)


@pytest.fixture(scope="module")
def profile():
    return calibrate([make_cache(seed) for seed in range(4)], rotary=ROTARY, group=3, classic=False)


def filled(*groups: torch.Tensor) -> TensorMemoryObj:
    obj = TensorMemoryObj([group.shape for group in groups], [group.dtype for group in groups])
    for index, group in enumerate(groups):
        into = obj.get_tensor(index)
        assert into is not None
        into.copy_(group)
    return obj


def chunk(seed: int = 1, tokens: int = 64, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
    """``[2, layers, tokens, channels]``, as LMCache holds it."""
    kv = make_cache(seed, tokens, dtype)
    return torch.stack([kv.keys, kv.values]).transpose(2, 3).flatten(3)


def buffer(serializer: PalimpsestSerializer, obj: TensorMemoryObj, padding: int = 0) -> TensorMemoryObj:
    layout = MemoryLayoutDesc(obj.get_shapes(), obj.get_dtypes())
    size = serializer.estimate_serialized_size(layout) + padding
    return TensorMemoryObj([torch.Size([size])], [torch.uint8])


def stored(coding: Coding, obj: TensorMemoryObj, key: ObjectKey | None = KEY) -> tuple[TensorMemoryObj, int]:
    serializer = PalimpsestSerializer(coding)
    dst = buffer(serializer, obj)
    return dst, serializer.serialize(obj, dst, key)


def loaded(coding: Coding, src, like: TensorMemoryObj, key: ObjectKey | None = KEY) -> TensorMemoryObj:
    dst = TensorMemoryObj(like.get_shapes(), like.get_dtypes())
    PalimpsestDeserializer(coding).deserialize(src, dst, key)
    return dst


def error(one: TensorMemoryObj, two: TensorMemoryObj, index: int = 0) -> float:
    a, b = (obj.get_tensor(index)[:, :, 4:].float() for obj in (one, two))  # type: ignore[index]
    return float((a - b).square().mean() / a.var())


@pytest.mark.parametrize("how", ["profile", "path", "bytes", "generic", "generic, un-rotated", "lossless"])
def test_what_is_stored_comes_back(profile, tmp_path, how):
    (tmp_path / "profile").write_bytes(profile.to_bytes())
    coding = {
        "profile": lambda: Coding(profile=profile),
        "path": lambda: Coding(profile=str(tmp_path / "profile"), level="high"),
        "bytes": lambda: Coding(profile=profile.to_bytes(), level="near-lossless", threads=2),
        "generic": lambda: Coding(),
        "generic, un-rotated": lambda: Coding(kv_heads=HEADS, rope_theta=ROTARY.theta),
        "lossless": lambda: Coding(level="lossless"),
    }[how]()
    obj = filled(chunk())
    data, size = stored(coding, obj)
    back = loaded(coding, data, obj)
    assert size < 0.85 * obj.get_size() if how == "lossless" else size < 0.6 * obj.get_size()
    assert error(obj, back) == 0 if how == "lossless" else error(obj, back) < 0.05


@pytest.mark.parametrize("start", [0, 64, 448, 4000])
def test_a_chunk_is_coded_right_though_its_position_is_not_known(profile, start):
    kv = make_cache(3, 128)[64:]
    turned = ROTARY.turn(ROTARY.turn(kv.keys, 64, back=True), start, back=False).bfloat16()
    kv = KeyValues(turned, kv.values, start)
    obj = filled(torch.stack([kv.keys, kv.values]).transpose(2, 3).flatten(3))
    best = len(encode(kv, profile=profile)["balanced"])
    coding = Coding(profile=profile)
    data, size = stored(coding, obj)
    assert read_header(data.byte_array).meta.codec == "transform"
    assert size < 1.3 * best
    assert error(obj, loaded(coding, data, obj)) < 0.05
    coding = Coding(kv_heads=HEADS, rope_theta=ROTARY.theta)
    assert error(obj, loaded(coding, stored(coding, obj)[0], obj)) < 0.05


def test_a_chunk_unlike_those_the_profile_knows_is_left_to_the_generic_codec(profile):
    strange = torch.randn(2, LAYERS, 64, HEADS * DIM, generator=torch.Generator().manual_seed(2)).bfloat16()
    coding, obj = Coding(profile=profile), filled(20 * strange)
    data, _ = stored(coding, obj)
    assert read_header(data.byte_array).meta.codec == "generic"
    assert error(obj, loaded(coding, data, obj)) < 0.05


def test_equal_tokens_are_left_to_the_generic_codec_that_does_not_round_them_all_alike(profile):
    kv = equal_tokens()
    obj = filled(torch.stack([kv.keys, kv.values]).transpose(2, 3).flatten(3))
    data, _ = stored(Coding(profile=profile), obj)
    assert read_header(data.byte_array).meta.codec == "generic"


@pytest.mark.parametrize("content", ["noise", "nan", "zeros", "cache", "short", "float32 noise"])
@pytest.mark.parametrize("level", ["smallest", "near-lossless", "lossless"])
def test_the_estimate_is_an_upper_bound_whatever_is_stored(profile, content, level):
    bits = torch.randint(-(2**15), 2**15, (2, LAYERS, 40, HEADS * DIM)).to(torch.int16)
    group = {
        "noise": lambda: bits.view(torch.bfloat16),
        "nan": lambda: torch.full((2, LAYERS, 40, HEADS * DIM), float("nan"), dtype=torch.bfloat16),
        "zeros": lambda: torch.zeros(2, LAYERS, 40, HEADS * DIM),
        "cache": lambda: chunk(),
        "short": lambda: chunk(tokens=1),
        "float32 noise": lambda: torch.randn(2, LAYERS, 40, HEADS * DIM) * 1e6,
    }[content]()
    for coding in (Coding(level=level), Coding(level=level, profile=profile)):
        obj = filled(group)
        dst, size = stored(coding, obj)
        assert size <= dst.get_size() <= obj.get_size() + 4096
        back = loaded(coding, dst, obj)
        if content in ("noise", "nan") or level == "lossless":  # what a level cannot carry is kept as it is
            assert back.raw_data.equal(obj.raw_data)


def test_a_buffer_longer_than_the_chunk_or_narrowed_to_it_is_read(profile):
    coding, obj = Coding(profile=profile), filled(chunk())
    dst, size = stored(coding, obj)
    whole = loaded(coding, dst, obj)
    dst.set_used_size(size)
    assert loaded(coding, dst, obj).raw_data.equal(whole.raw_data)
    bare = types.SimpleNamespace(tensor=torch.cat([dst.raw_data[:size], torch.ones(99, dtype=torch.uint8)]))
    assert loaded(coding, bare, obj).raw_data.equal(whole.raw_data)
    dst.set_used_size(size - 1)
    with pytest.raises(DataLoss):
        loaded(coding, dst, obj)


def test_objects_of_several_groups_are_coded_one_after_another():
    coding, obj = Coding(level="high"), filled(chunk(1), chunk(2, 30), chunk(3, 64, torch.float16))
    dst, size = stored(coding, obj)
    back = loaded(coding, dst, obj)
    assert all(error(obj, back, index) < 0.05 for index in range(3))
    at = 0
    for _ in range(3):
        at += read_header(dst.byte_array[at:]).total
    assert at == size


def test_signatures_without_a_key_are_served():
    coding, obj = Coding(), filled(chunk())
    serializer = PalimpsestSerializer(coding)
    dst, back = buffer(serializer, obj), TensorMemoryObj(obj.get_shapes(), obj.get_dtypes())
    assert serializer.serialize(obj, dst) > 0
    PalimpsestDeserializer(coding).deserialize(dst, back)
    assert error(obj, back) < 0.05
    # Written with a key and read without one: nothing to compare with.
    loaded(coding, stored(coding, obj)[0], obj, None)
    with pytest.raises(FailedPrecondition):  # the other way round there is
        loaded(coding, dst, obj)


@pytest.mark.parametrize(
    "change",
    [
        {"chunk_hash": b"\2" * 32},
        {"model_name": "other"},
        {"kv_rank": 1},
        {"object_group_id": 1},
        {"cache_salt": "another user"},
    ],
)
def test_a_chunk_under_anothers_key_is_noticed(change):
    coding, obj = Coding(), filled(chunk())
    dst, _ = stored(coding, obj)
    with pytest.raises(FailedPrecondition, match="another prefix"):
        loaded(coding, dst, obj, ObjectKey(**{**vars(KEY), **change}))


def test_damage_is_noticed_and_nothing_is_written():
    coding, obj = Coding(), filled(chunk(1), chunk(2))
    dst, size = stored(coding, obj)
    for at in range(0, size, 149):
        dst.raw_data[at] ^= 8
        back = TensorMemoryObj(obj.get_shapes(), obj.get_dtypes())
        with pytest.raises((DataLoss, InvalidArgument, Unimplemented)):
            PalimpsestDeserializer(coding).deserialize(dst, back, KEY)
        assert not back.raw_data.any()
        dst.raw_data[at] ^= 8


def test_what_cannot_be_stored_or_put_there():
    coding, obj = Coding(kv_heads=HEADS), filled(chunk())
    for shape in ((1, 4, 64, 32), (2, 4, 64), (2, 4, 64, 33)):
        with pytest.raises(Unimplemented):
            stored(coding, filled(torch.zeros(shape)))
    with pytest.raises(InvalidArgument):
        stored(coding, filled(torch.zeros(2, 4, 8, 32, dtype=torch.uint8)))
    with pytest.raises(ResourceExhausted) as full:
        PalimpsestSerializer(coding).serialize(obj, TensorMemoryObj([torch.Size([99])], [torch.uint8]), KEY)
    assert int(full.value.metadata["needed"]) > 99
    dst, _ = stored(coding, obj)
    with pytest.raises(InvalidArgument):
        loaded(coding, dst, filled(chunk(1, 32)))
    gone = types.SimpleNamespace(tensor=None)
    with pytest.raises(InvalidArgument):
        PalimpsestSerializer(coding).serialize(gone, dst)
    for settings in ({"rope_theta": 1e4}, {"profile": "/nowhere"}, {"profile": b"nothing"}):
        with pytest.raises(InvalidArgument):
            Coding(**settings)  # type: ignore[arg-type]


# Registration


@pytest.fixture
def package(monkeypatch):
    """The published interface in the package's place."""
    if INSTALLED:
        pytest.skip("lmcache itself is installed; the test below uses it")
    published.factories.clear()
    for name in ("lmcache", "lmcache.v1", "lmcache.v1.distributed"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setattr(sys.modules["lmcache.v1.distributed"], "serde", published, raising=False)
    return published


def test_it_registers_and_runs_in_the_processor(package):
    lmcache.register()
    serde = package.factories["palimpsest"]({"level": "high", "kv_heads": HEADS, "max_workers": 2})
    assert isinstance(serde.serializer, package.Serializer)
    assert isinstance(serde.deserializer, package.Deserializer)
    objs = [filled(chunk(seed)) for seed in range(3)]
    keys = [ObjectKey(bytes([seed]), "tiny", 0) for seed in range(3)]
    dsts = [buffer(serde, obj) for obj in objs]
    assert serde.wait(serde.submit_serialize(objs, dsts, keys))
    backs = [TensorMemoryObj(obj.get_shapes(), obj.get_dtypes()) for obj in objs]
    assert serde.wait(serde.submit_deserialize(dsts, backs, keys))
    assert all(error(*pair) < 0.05 for pair in zip(objs, backs, strict=True))
    assert not serde.wait(serde.submit_deserialize(dsts, backs, keys[::-1]))
    serde.close()
    with pytest.raises(ValueError, match="already registered"):
        lmcache.register()
    with pytest.raises(InvalidArgument, match="no setting colour"):
        lmcache.create({"type": "palimpsest", "colour": "red"})  # older versions pass the type too


def test_it_meets_every_abstract_method_with_the_published_parameters():
    for ours, theirs in (
        (PalimpsestSerializer, published.Serializer),
        (PalimpsestDeserializer, published.Deserializer),
    ):
        for name in theirs.__abstractmethods__:
            wanted = list(inspect.signature(getattr(theirs, name)).parameters)
            assert list(inspect.signature(getattr(ours, name)).parameters) == wanted


def test_without_lmcache_it_says_what_to_install():
    script = """
import sys
sys.modules["lmcache"] = None
from palimpsest.integrations import lmcache
lmcache.register()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert "pip install 'palimpsest-lm[lmcache]'" in done.stderr
    assert Rotary() == Coding().rotary


@pytest.mark.skipif(not INSTALLED, reason="install lmcache to test against the package itself")
def test_it_runs_in_the_package_itself():
    from lmcache.v1.distributed import serde  # pyright: ignore[reportMissingImports]

    lmcache.register("palimpsest-test")
    assert "palimpsest-test" in serde.get_registered_serde_types()
    processor = serde.create_serde_processor(
        serde.SerdeConfig(type="palimpsest-test", kwargs={"level": "high", "kv_heads": HEADS})
    )
    obj = filled(chunk())
    dst = buffer(processor, obj)  # type: ignore[arg-type]
    task = processor.submit_serialize([obj], [dst], [KEY])
    assert select.select([processor.get_serialize_event_fd()], [], [], 60)[0]
    assert processor.query_serialize_result(task)
    back = TensorMemoryObj(obj.get_shapes(), obj.get_dtypes())
    task = processor.submit_deserialize([dst], [back], [KEY])
    assert select.select([processor.get_deserialize_event_fd()], [], [], 60)[0]
    assert processor.query_deserialize_result(task)
    assert error(obj, back) < 0.05
    processor.close()
