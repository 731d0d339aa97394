"""The vLLM connector, driven as an engine drives it: paged buffers, block tables, steps, preemption, load errors."""

import importlib
import importlib.util
import inspect
import pickle
import random
import subprocess
import sys
import types
from types import SimpleNamespace

import pytest
import torch

from palimpsest.errors import FailedPrecondition, InvalidArgument, Reason, Unavailable, Unimplemented
from palimpsest.integrations.contexts import digest_of
from palimpsest.integrations.paged import PagedLayer
from palimpsest.kv import KeyValues
from tests.unit.integrations.memory_store import MemoryStore

from ..kv.conftest import DIM, HEADS, LAYERS, ROTARY, make_cache
from . import vllm_published as published
from .vllm_published import CachedRequestData, KVCacheBlocks, NewRequestData, Request, SchedulerOutput

INSTALLED = importlib.util.find_spec("vllm") is not None
BASE = "vllm.distributed.kv_transfer.kv_connector.v1.base"
LAYOUTS = ["packed", "packed, heads outside", "keys first", "blocks first", "packed, kernel blocks of 4"]
BLOCK, BLOCKS = 8, 40


@pytest.fixture(scope="module")
def vllm():
    """The connector's module over vLLM's own base where that is installed, else over the published one."""
    if INSTALLED:
        yield importlib.import_module("palimpsest.integrations.vllm")
        return
    kept = sys.modules.pop("palimpsest.integrations.vllm", None)
    names = [BASE.rsplit(".", at)[0] for at in range(BASE.count(".") + 1)]
    sys.modules |= {name: types.ModuleType(name) for name in names} | {BASE: published}
    try:
        yield importlib.import_module("palimpsest.integrations.vllm")
    finally:
        for name in [*names, "palimpsest.integrations.vllm"]:
            del sys.modules[name]
        if kept is not None:
            sys.modules["palimpsest.integrations.vllm"] = kept


def empty(layout: str) -> torch.Tensor:
    if layout == "packed":
        return torch.zeros(BLOCKS, BLOCK, HEADS, 2 * DIM, dtype=torch.bfloat16).transpose(1, 2)
    if layout == "packed, heads outside":
        return torch.zeros(BLOCKS, HEADS, BLOCK, 2 * DIM, dtype=torch.bfloat16)
    if layout == "packed, kernel blocks of 4":
        return torch.zeros(2 * BLOCKS, HEADS, 4, 2 * DIM, dtype=torch.bfloat16)
    shape = (BLOCKS, BLOCK, HEADS, DIM)
    shape = (2, *shape) if layout == "keys first" else (shape[0], 2, *shape[1:])
    return torch.zeros(shape, dtype=torch.bfloat16)


def cell(buffer: torch.Tensor, layout: str, block: int, offset: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return views of one token's keys and values, ``[heads, dim]``: the plain reading of the layouts."""
    if layout == "packed, kernel blocks of 4":
        block, offset = 2 * block + offset // 4, offset % 4
    if layout.startswith("packed"):
        return buffer[block, :, offset, :DIM], buffer[block, :, offset, DIM:]
    if layout == "keys first":
        return buffer[0, block, offset], buffer[1, block, offset]
    return buffer[block, 0, offset], buffer[block, 1, offset]


class Engine:
    """The least of an engine: one request at a time, keys and values that its text determines."""

    def __init__(
        self, vllm, store, layout: str = "packed", role: str = "kv_both", budget: int = 1000
    ) -> None:
        class Connector(vllm.PalimpsestConnector):
            def open_store(self, transfer):
                return store

        self.config = config(role)
        cache = SimpleNamespace(num_blocks=BLOCKS)
        self.scheduler, self.worker = (
            Connector(self.config, each, cache)
            for each in (published.KVConnectorRole.SCHEDULER, published.KVConnectorRole.WORKER)
        )
        # Out of order, as a dictionary may be; ten layers would sort wrongly by name.
        self.buffers = {f"model.layers.{at + 8}.self_attn.attn": empty(layout) for at in (2, 0, 3, 1)}
        self.names = sorted(self.buffers, key=lambda name: int(name.split(".")[2]))
        self.worker.register_kv_caches(self.buffers)
        self.layout, self.budget = layout, budget
        self.pool = list(range(BLOCKS))
        self.draw = random.Random(layout)
        self.computed: list[int] = []
        self.failed: set[int] = set()

    def compute(self, truth: KeyValues, table: list[int], first: int, last: int) -> None:
        for at, name in enumerate(self.names):
            for position in range(first, last):
                keys, values = cell(
                    self.buffers[name], self.layout, table[position // BLOCK], position % BLOCK
                )
                keys.copy_(truth.keys[at, :, position])
                values.copy_(truth.values[at, :, position])
        self.computed += range(first, last)

    def held(self, table: list[int], tokens: int) -> KeyValues:
        parts = [
            [cell(self.buffers[name], self.layout, table[p // BLOCK], p % BLOCK) for p in range(tokens)]
            for name in self.names
        ]
        keys, values = (
            torch.stack([torch.stack([pair[c] for pair in layer], 1) for layer in parts]) for c in (0, 1)
        )
        return KeyValues(keys, values)

    def step(self, output: SchedulerOutput, truth: KeyValues, table: list[int], first: int, last: int) -> int:
        """Run one step; return up to where it is computed."""
        meta = pickle.loads(pickle.dumps(self.scheduler.build_connector_meta(output)))  # noqa: S301
        self.worker.bind_connector_metadata(meta)
        self.worker.start_load_kv(SimpleNamespace(no_compile_layers={}))
        for name in self.names:
            self.worker.wait_for_layer_load(name)
        self.compute(truth, table, first, last)
        for name in self.names:
            self.worker.save_kv_layer(name, self.buffers[name], None)
        self.worker.wait_for_save()
        self.failed = self.worker.get_block_ids_with_load_errors()
        assert self.worker.get_finished(set()) == (None, None)
        self.worker.clear_connector_metadata()
        if self.failed:
            return min(table.index(block) for block in self.failed) * BLOCK
        return last

    def run(self, ids: list[int], truth: KeyValues, local: int = 0, name: str = "r", preempt: bool = False):
        request = Request(name, ids)
        found, asynchronous = self.scheduler.get_num_new_matched_tokens(request, local)
        assert (
            self.scheduler.get_num_new_matched_tokens(request, local)
            == (found, asynchronous)
            == (found, False)
        )
        table = self.draw.sample(self.pool, -(-len(ids) // BLOCK))
        self.compute(truth, table, 0, local)  # what the engine's own prefix cache has
        self.computed.clear()
        self.scheduler.update_state_after_alloc(request, KVCacheBlocks(table), found)
        at = local + found
        size = min(self.budget, len(ids) - at)
        shown = table[: -(-(at + size) // BLOCK)]
        new = NewRequestData(name, ids, [], (list(shown),), at)
        at = self.step(SchedulerOutput([new], CachedRequestData(), {name: size}), truth, table, at, at + size)
        while at < len(ids):
            size = min(self.budget, len(ids) - at)
            more = table[len(shown) : max(len(shown), -(-(at + size) // BLOCK))]
            resumed = preempt and bool(more)
            if resumed:  # all blocks were taken away and others given
                table = self.draw.sample(self.pool, len(table))
                self.compute(truth, table, 0, at)
                more, preempt = table[: -(-(at + size) // BLOCK)], False
            shown = more if resumed else shown + more
            cached = CachedRequestData(
                [name], {name} if resumed else set(), [(more,) if more else None], [at]
            )
            at = self.step(SchedulerOutput([], cached, {name: size}), truth, table, at, at + size)
        assert self.scheduler.request_finished(request, table) == (False, None)
        return found, self.held(table, len(ids))

    def settle(self) -> None:
        """Wait until what was saved is in the store."""
        for putting in list(self.worker._transfer._putting):
            putting.result()


def config(role: str = "kv_both", **changes) -> SimpleNamespace:
    parts = {
        "kv_transfer_config": published.KVTransferConfig(role),
        "cache_config": SimpleNamespace(block_size=BLOCK),
        "parallel_config": SimpleNamespace(tensor_parallel_size=1, pipeline_parallel_size=1),
        "model_config": SimpleNamespace(use_mla=False),
    }
    return SimpleNamespace(**(parts | changes))


def text(seed: int, tokens: int) -> tuple[list[int], KeyValues]:
    return [1000 * seed + at for at in range(tokens)], make_cache(seed, 160)[:tokens]


def memory(level: str = "near-lossless") -> MemoryStore:
    return MemoryStore(chunk_tokens=16, level=level, rotary=ROTARY)


def close(one: KeyValues, two: KeyValues, first: int = 4) -> bool:
    pairs = ((one.keys, two.keys), (one.values, two.values))
    return all(
        float((a - b)[:, :, first:].float().square().mean()) < 0.05 * float(a[:, :, first:].float().var())
        for a, b in pairs
    )


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_prompt_that_was_stored_is_loaded_in_place_of_being_computed(vllm, layout):
    engine = Engine(vllm, store := memory("lossless"), layout)
    ids, truth = text(1, 75)
    assert engine.run(ids, truth)[0] == 0
    engine.settle()
    assert len(store.chunks) == 4  # of 16 tokens; 72 are whole blocks
    other = Engine(vllm, store, layout)
    found, held = other.run(ids, truth)
    assert found == 64
    assert other.computed == list(range(64, 75))
    assert held.keys.equal(truth.keys)
    assert held.values.equal(truth.values)


def test_a_longer_prompt_uses_the_part_that_is_stored_and_stores_the_rest(vllm):
    engine = Engine(vllm, store := memory())
    engine.run(*text(1, 40))
    engine.settle()
    ids, truth = text(1, 120)
    found, held = engine.run(ids, truth)
    assert found == 32
    assert close(truth, held)
    engine.settle()
    assert len(store.chunks) == 7
    assert engine.run(*text(2, 40))[0] == 0  # another text


def test_the_last_token_is_always_computed_and_blocks_stay_whole(vllm):
    engine = Engine(vllm, memory())
    engine.run(*text(1, 64))
    engine.settle()
    assert engine.run(*text(1, 64))[0] == 56
    assert engine.run(*text(1, 65))[0] == 64
    assert engine.run(*text(1, 8))[0] == 0
    assert engine.run(*text(1, 63))[0] == 48


def test_what_the_engine_has_itself_is_not_loaded_again(vllm):
    engine = Engine(vllm, memory())
    engine.run(*text(1, 80))
    engine.settle()
    ids, truth = text(1, 80)
    found, held = engine.run(ids, truth, local=24)
    assert found == 48
    assert held.keys[:, :, :24].equal(truth.keys[:, :, :24])
    assert close(truth, held)
    assert engine.run(ids, truth, local=72)[0] == 0


@pytest.mark.parametrize("preempt", [False, True])
def test_a_prompt_computed_in_pieces_is_stored_when_it_is_complete(vllm, preempt):
    engine = Engine(vllm, store := memory("lossless"), budget=13)
    ids, truth = text(3, 70)
    engine.run(ids, truth, preempt=preempt)
    engine.settle()
    assert len(store.chunks) == 4
    found, held = Engine(vllm, store).run(ids, truth)
    assert found == 64
    assert held.keys.equal(truth.keys)


@pytest.mark.parametrize("chunk", [0, 1, 3])
@pytest.mark.parametrize("how", ["damaged", "gone"])
def test_blocks_of_a_damaged_chunk_are_reported_and_computed(vllm, chunk, how):
    engine = Engine(vllm, store := memory())
    ids, truth = text(1, 75)
    engine.run(ids, truth)
    engine.settle()
    match = engine.scheduler._store.look_up(ids)
    digest = digest_of(ids[: 16 * (chunk + 1)])
    bad = bytearray(store.chunks[digest])
    bad[len(bad) // 2] ^= 1
    if how == "damaged":
        store.chunks[digest] = bytes(bad)
    else:
        kept = store.load

        def load(match):
            del store.chunks[digest]
            return kept(match)

        store.load = load
    assert match is not None
    other = Engine(vllm, store)
    found, held = other.run(ids, truth)
    assert found == 64
    assert sorted(set(other.computed)) == list(range(16 * chunk, 75))
    assert close(truth, held)


class Away(MemoryStore):
    """A store behind a link that is down."""

    def look_up(self, ids):
        raise Unavailable(Reason.SERVER_UNREACHABLE, "away")

    def put(self, ids, kv):
        raise Unavailable(Reason.SERVER_UNREACHABLE, "away")


class LostLater(MemoryStore):
    """A store that goes away between look-up and load."""

    def load(self, match):
        yield from list(super().load(match))[:1]
        raise Unavailable(Reason.SERVER_UNREACHABLE, "away")


def test_a_store_that_is_away_costs_only_speed(vllm):
    engine = Engine(vllm, Away(chunk_tokens=16))
    ids, truth = text(1, 75)
    found, held = engine.run(ids, truth)
    assert found == 0
    assert held.keys.equal(truth.keys)
    store = LostLater(chunk_tokens=16, level="lossless")
    Engine(vllm, store).run(ids, truth)
    engine = Engine(vllm, store)
    store.put(ids, truth)
    found, held = engine.run(ids, truth)
    assert found == 64
    assert sorted(set(engine.computed)) == list(range(16, 75))
    assert held.keys.equal(truth.keys)


def test_a_context_of_another_shape_is_not_written(vllm):
    ids, truth = text(1, 40)
    store = memory()
    store.put(ids, KeyValues(truth.keys[:3], truth.values[:3]))
    engine = Engine(vllm, store)
    found, held = engine.run(ids, truth)
    assert found == 32
    assert held.keys.equal(truth.keys)


@pytest.mark.parametrize(("role", "stores", "loads"), [("kv_producer", 2, 0), ("kv_consumer", 0, 32)])
def test_a_role_does_its_part_only(vllm, role, stores, loads):
    ids, truth = text(1, 40)
    engine = Engine(vllm, store := memory(), role=role)
    engine.run(ids, truth)
    engine.settle()
    assert len(store.chunks) == stores
    store.put(ids, truth)
    assert engine.run(ids, truth)[0] == loads


@pytest.mark.parametrize(
    "mark",
    [{"mm_features": ["image"]}, {"lora_request": "adapter"}, {"cache_salt": "user"}, {"prompt_embeds": 1}],
)
def test_requests_that_their_tokens_do_not_determine_are_left_alone(vllm, mark):
    store = memory()
    ids, truth = text(1, 40)
    store.put(ids, truth)
    engine = Engine(vllm, store)
    request = Request("r", ids, **mark)
    assert engine.scheduler.get_num_new_matched_tokens(request, 0) == (0, False)
    # Nor is one of them stored, though what the step says of it does not show that it is private.
    engine.scheduler.update_state_after_alloc(request, KVCacheBlocks(list(range(5))), 0)
    new = NewRequestData("r", ids, [], (list(range(5)),), 0)
    output = SchedulerOutput([new], CachedRequestData(), {"r": 40})
    assert engine.scheduler.build_connector_meta(output).saves == []
    assert engine.scheduler.get_num_new_matched_tokens(Request("r", None), 0) == (0, False)


def test_models_that_cannot_be_stored_are_refused(vllm):
    role = published.KVConnectorRole.WORKER
    parallel = SimpleNamespace(tensor_parallel_size=2, pipeline_parallel_size=1)
    for changes in ({"parallel_config": parallel}, {"model_config": SimpleNamespace(use_mla=True)}):
        with pytest.raises(Unimplemented):
            vllm.PalimpsestConnector(config(**changes), role, None)
    with pytest.raises(InvalidArgument, match="target and model"):
        vllm.PalimpsestConnector(config(), role, None)
    for buffer in (
        torch.zeros(4, BLOCK, 33),
        torch.zeros(4, HEADS, BLOCK, 33),
        torch.zeros(3, 3, BLOCK, HEADS, DIM),
        torch.zeros(4, HEADS, BLOCK, 2 * DIM, dtype=torch.uint8),
        torch.zeros(4, HEADS, 3, 2 * DIM),
        [torch.zeros(4)],
    ):
        with pytest.raises(Unimplemented):
            PagedLayer(buffer, BLOCK)  # type: ignore[arg-type]


def test_two_blocks_tell_the_split_layouts_apart_by_their_number():
    buffer = torch.arange(2 * 2 * BLOCK * HEADS * DIM, dtype=torch.float32).view(2, 2, BLOCK, HEADS, DIM)
    keys, _ = PagedLayer(buffer, BLOCK, blocks=2).gather([1], 0, 1)
    assert keys[:, 0].equal(buffer[0, 1, 0])


def test_everything_abstract_is_there_with_the_published_parameters(vllm):
    base = importlib.import_module(BASE).KVConnectorBase_V1
    assert not inspect.isabstract(vllm.PalimpsestConnector)
    for name, method in inspect.getmembers(base, inspect.isfunction):
        if name.startswith("_") or name not in vars(vllm.PalimpsestConnector):
            continue
        wanted = list(inspect.signature(method).parameters)
        assert list(inspect.signature(getattr(vllm.PalimpsestConnector, name)).parameters) == wanted, name
    assert not Engine(vllm, memory()).worker.requires_kv_delivery
    assert vllm.PalimpsestConnector.requires_piecewise_for_cudagraph({})
    assert len(text(1, LAYERS)[0]) == LAYERS


def test_shutdown_finishes_what_is_on_its_way(vllm):
    engine = Engine(vllm, store := memory())
    engine.run(*text(1, 40))
    engine.worker.shutdown()
    assert len(store.chunks) == 2


@pytest.mark.skipif(INSTALLED, reason="vllm is installed")
def test_without_vllm_it_says_what_to_install():
    script = "from palimpsest.integrations.vllm import PalimpsestConnector; PalimpsestConnector(None, None)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert "pip install 'palimpsest-lm[vllm]'" in done.stderr
    assert FailedPrecondition.__name__ in done.stderr
