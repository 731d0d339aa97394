"""Adapters by shard: removal gives the bits of a model for which the document was never there."""

import copy
import dataclasses
import shutil

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from palimpsest.errors import DataLoss, FailedPrecondition, InvalidArgument
from palimpsest.progress import NullProgress
from palimpsest.training.recipe import LoraSettings, Recipe
from services.unlearning.algorithms.shards import ShardedAdapters, ShardMap, shard_of
from tests.unit.unlearning.algorithms.conftest import near, sequences, tiny

RECIPE = Recipe(steps=1, learning_rate=1e-2, batch=2, adapter=LoraSettings(rank=2))
DATA = [dataclasses.replace(each, name=f"doc-{n // 2}") for n, each in enumerate(sequences(16, 4, "x"))]
DOCUMENTS = sorted({each.name for each in DATA})


@pytest.fixture(scope="module")
def base():
    return tiny(seed=8, layers=2).float()


@pytest.fixture(scope="module")
def trained(base, tmp_path_factory):
    folder = tmp_path_factory.mktemp("all")
    adapters(folder).create(base, DATA, 3, 7, NullProgress())
    return folder


@pytest.fixture
def folder(trained, tmp_path):
    """A copy to change."""
    return shutil.copytree(trained, tmp_path / "shards")


def adapters(folder):
    return ShardedAdapters(folder, RECIPE, epochs=2)


def without(*names):
    return [each for each in DATA if each.name not in names]


def served(folder, base):
    module = copy.deepcopy(base)
    adapters(folder).add_to(module)
    return {name: weight.detach() for name, weight in module.named_parameters()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_removal_is_exact(folder, base, tmp_path):
    adapters(folder).remove(["doc-2"], base, without("doc-2"), NullProgress())
    adapters(tmp_path / "never").create(base, without("doc-2"), 3, 7, NullProgress())
    assert same(served(folder, base), served(tmp_path / "never", base))
    assert adapters(folder).map == adapters(tmp_path / "never").map


def test_the_document_had_been_learnt(folder, base):
    before = served(folder, base)
    adapters(folder).remove(["doc-2"], base, without("doc-2"), NullProgress())
    assert not same(before, served(folder, base))


def test_adapters_of_other_shards_are_not_touched(folder, base):
    shards = adapters(folder)
    gone = shards.map.documents["doc-2"]
    files = {path: path.read_bytes() for path in folder.glob("shard-*/adapter_model.safetensors")}
    assert len(files) == 3
    shards.remove(["doc-2"], base, without("doc-2"), NullProgress())
    for path, data in files.items():
        assert (path.read_bytes() == data) == (path.parent.name != f"shard-{gone:03d}")


def test_the_base_is_left_as_it_is(folder, base):
    kept = {name: weight.detach().clone() for name, weight in base.named_parameters()}
    required = {name: weight.requires_grad for name, weight in base.named_parameters()}
    adapters(folder).remove(["doc-1"], base, without("doc-1"), NullProgress())
    assert same(kept, {name: weight.detach() for name, weight in base.named_parameters()})
    assert required == {name: weight.requires_grad for name, weight in base.named_parameters()}


def test_the_order_of_the_data_does_not_matter(trained, base, tmp_path):
    adapters(tmp_path).create(base, DATA[::-1], 3, 7, NullProgress())
    assert same(served(tmp_path, base), served(trained, base))


def test_all_of_a_shard_can_be_removed(folder, base):
    shards = adapters(folder)
    names = shards.map.of_shard(0)
    left = shards.remove(names, base, without(*names), NullProgress())
    assert 0 not in left.digests
    assert not (folder / "shard-000").exists()
    assert not left.pending
    served(folder, base)


class Interrupting(NullProgress):
    def step(self, done, total, stage=""):
        raise KeyboardInterrupt


def test_a_removal_that_is_interrupted_has_removed_and_goes_on(folder, base, tmp_path):
    shards = adapters(folder)
    gone = shards.map.documents["doc-2"]
    with pytest.raises(KeyboardInterrupt):
        shards.remove(["doc-2"], base, without("doc-2"), Interrupting())
    assert not (folder / f"shard-{gone:03d}").exists()
    assert "doc-2" not in shards.map.documents
    assert shards.map.pending == [gone]
    with pytest.raises(FailedPrecondition) as caught:
        shards.add_to(copy.deepcopy(base))
    assert caught.value.reason == "SHARDS_INVALID"
    shards.complete(base, without("doc-2"), NullProgress())
    adapters(tmp_path / "never").create(base, without("doc-2"), 3, 7, NullProgress())
    assert same(served(folder, base), served(tmp_path / "never", base))


def test_a_document_that_no_shard_holds_is_refused(folder, base):
    shards = adapters(folder)
    with pytest.raises(FailedPrecondition) as caught:
        shards.remove(["doc-2", "doc-99"], base, DATA, NullProgress())
    assert caught.value.reason == "SHARD_DOCUMENT_UNKNOWN"
    assert "doc-2" in shards.map.documents


def test_data_that_stays_must_be_there(folder, base):
    shards = adapters(folder)
    mates = [name for name in shards.map.of_shard(shards.map.documents["doc-2"]) if name != "doc-2"]
    with pytest.raises(FailedPrecondition) as caught:
        shards.remove(["doc-2"], base, without("doc-2", mates[0]), NullProgress())
    assert caught.value.reason == "ALGORITHM_INPUT_MISSING"
    assert "doc-2" in shards.map.documents
    assert not shards.map.pending


def test_an_adapter_that_was_changed_is_found_out(folder, base):
    file = next(folder.glob("shard-*/adapter_model.safetensors"))
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(DataLoss):
        adapters(folder).add_to(copy.deepcopy(base))


def test_what_is_served_is_the_base_and_the_sum_of_the_adapters(trained, base):
    """Against peft's own reading of one adapter after another."""
    from peft import PeftModel

    module = copy.deepcopy(base)
    for path in sorted(trained.glob("shard-*")):
        module = PeftModel.from_pretrained(module, str(path)).merge_and_unload()
    got = served(trained, base)
    for name, weight in module.named_parameters():
        torch.testing.assert_close(got[name], weight.detach(), rtol=1e-5, atol=1e-6)


def test_weight_zero_is_the_base(trained, base):
    module = copy.deepcopy(base)
    adapters(trained).add_to(module, 0.0)
    assert same(dict(module.named_parameters()), dict(base.named_parameters()))


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.sets(st.text(max_size=8), max_size=30), st.integers(1, 9), st.integers(0, 3), st.data())
def test_the_map_is_the_same_whatever_was_once_there(documents, count, seed, data):
    gone = data.draw(st.sets(st.sampled_from(sorted(documents)))) if documents else set()
    whole = ShardMap(count, seed).adding(documents)
    for shard in whole.pending:
        whole = whole.trained(shard, f"digest-{shard}")
    left = whole.without(gone)
    assert left.documents == ShardMap(count, seed).adding(documents - gone).documents
    assert all(left.documents[name] == shard_of(name, count, seed) for name in left.documents)
    touched = {whole.documents[name] for name in gone}
    assert set(left.pending) == {shard for shard in touched if shard in set(left.documents.values())}
    assert set(left.digests) == set(whole.digests) - touched
    assert ShardMap.from_json(left.to_json()) == left


def test_documents_are_spread():
    found = [shard_of(f"doc-{n}", 8, 1) for n in range(800)]
    assert all(60 < found.count(shard) < 140 for shard in range(8))


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[:-5],
        lambda text: text.replace('"format": 1', '"format": 2'),
        lambda text: text.replace('"count": 3', '"count": 0'),
        lambda text: text.replace('"doc-0": 0', '"doc-0": 1').replace('"doc-0": 2', '"doc-0": 0'),
        lambda text: "[]",
    ],
)
def test_a_damaged_map_is_refused(damage):
    text = ShardMap(3, 7).adding(DOCUMENTS).to_json()
    damaged = damage(text)
    if damaged == text:
        damaged = text.replace('"doc-0": 1', '"doc-0": 2')
    with pytest.raises(InvalidArgument) as caught:
        ShardMap.from_json(damaged)
    assert caught.value.reason == "SHARDS_INVALID"


def test_another_base_gives_other_adapters(trained, base, tmp_path):
    adapters(tmp_path).create(near(base, 3, 0.1), DATA, 3, 7, NullProgress())
    assert adapters(tmp_path).map.digests != adapters(trained).map.digests
