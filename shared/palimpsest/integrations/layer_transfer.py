"""Keys and values between a context store and an engine's paged buffers, layer by layer as the engine asks."""

import logging
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

import torch

from palimpsest.errors import PalimpsestError
from palimpsest.integrations.contexts import ContextStore, Match
from palimpsest.integrations.paged import PagedLayer
from palimpsest.kv import KeyValues

logger = logging.getLogger(__name__)
WAITING = 4
"""Contexts on their way to the store; while there are so many, prompts that end are not stored."""


@dataclass(frozen=True)
class Load:
    """Tokens ``first .. last - 1`` of a request are to come from a stored context."""

    request_id: str
    match: Match
    first: int
    last: int
    blocks: tuple[int, ...]


@dataclass(frozen=True)
class Save:
    """The first tokens of a request, all computed after this step, are to be stored."""

    request_id: str
    ids: tuple[int, ...]
    blocks: tuple[int, ...]


class LayerTransfer:
    """Loads contexts into paged buffers and copies prompts out of them. Never raises on behalf of the store.

    Parameters
    ----------
    store
        Where contexts are.
    block_size
        Tokens of a block.
    blocks
        Blocks of a buffer; None: not known.
    """

    def __init__(self, store: ContextStore, block_size: int, blocks: int | None) -> None:
        self._store, self._block_size, self._blocks = store, block_size, blocks
        self._layers: dict[str, PagedLayer] = {}
        self._order: list[str] = []
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="palimpsest-kv")
        self._loading: list[tuple[Load, Future[list[KeyValues]]]] = []
        self._saved: dict[str, list[tuple[torch.Tensor, torch.Tensor] | None]] = {}
        self._putting: set[Future[None]] = set()
        self._failed: set[int] = set()

    @property
    def registered(self) -> bool:
        """Whether the buffers are known."""
        return bool(self._layers)

    def register(self, caches: Mapping[str, torch.Tensor]) -> None:
        """Take note of the paged buffers by layer name."""
        self._order = sorted(caches, key=_numbers)
        self._layers = {
            name: PagedLayer(caches[name], self._block_size, self._blocks) for name in self._order
        }

    def start(self, loads: Sequence[Load]) -> None:
        """Begin to load a step's contexts."""
        self._loading = [(load, self._threads.submit(self._fetch, load)) for load in loads]

    def write(self, layer_name: str) -> None:
        """Wait for the step's loads and write one layer of them into its blocks."""
        if layer_name not in self._layers:  # it shares another layer's cache
            return
        at = self._order.index(layer_name)
        for load, coming in self._loading:
            for kv in coming.result():
                first = max(load.first, kv.start)
                part = kv[first - kv.start : min(load.last, kv.start + kv.tokens) - kv.start]
                self._layers[layer_name].scatter(load.blocks, first, part.keys[at], part.values[at])
        if at == len(self._order) - 1:
            self._loading = []

    def copy(self, layer_name: str, saves: Sequence[Save]) -> None:
        """Copy one layer of some prompts; prompts are skipped while too many are on their way to the store."""
        if layer_name not in self._layers:
            return
        at = self._order.index(layer_name)
        for save in saves:
            if len(self._putting) >= WAITING:
                continue
            layers = self._saved.setdefault(save.request_id, [None] * len(self._order))
            keys, values = self._layers[layer_name].gather(save.blocks, 0, len(save.ids))
            layers[at] = keys.cpu(), values.cpu()

    def put(self, saves: Sequence[Save]) -> None:
        """Store the prompts of which every layer was copied, in the background."""
        for save in saves:
            layers = self._saved.pop(save.request_id, None)
            if layers is None or any(layer is None for layer in layers):
                continue
            keys, values = zip(*(layer for layer in layers if layer is not None), strict=True)
            kv = KeyValues(torch.stack(keys), torch.stack(values))
            putting = self._threads.submit(self._put, save, kv)
            self._putting.add(putting)
            putting.add_done_callback(self._putting.discard)

    def failed_blocks(self) -> set[int]:
        """Return, once, the blocks whose tokens did not come."""
        wait(coming for _, coming in self._loading)
        failed, self._failed = self._failed, set()
        return failed

    def close(self) -> None:
        """Finish what is on its way to the store."""
        self._threads.shutdown(wait=True)

    def _fetch(self, load: Load) -> list[KeyValues]:
        """Load what fits, and note the blocks of what does not arrive."""
        parts: list[KeyValues] = []
        try:
            for kv in self._store.load(load.match):
                if kv.start < load.last and kv.start + kv.tokens > load.first and self._fits(kv):
                    parts.append(kv)
        except PalimpsestError as wrong:
            logger.warning("A context did not come whole, the rest is recomputed: %s", wrong)
        except Exception:  # a cache must not end the engine
            logger.exception("A context could not be loaded; it is recomputed.")
        covered = {at for kv in parts for at in range(kv.start, kv.start + kv.tokens)}
        self._failed |= {
            load.blocks[at // self._block_size] for at in range(load.first, load.last) if at not in covered
        }
        return parts

    def _fits(self, kv: KeyValues) -> bool:
        layer = self._layers[self._order[0]]
        heads, key_dim, value_dim = kv.geometry.kv_heads, kv.geometry.key_dim, kv.geometry.value_dim
        return (kv.geometry.layers, heads, key_dim, value_dim) == (len(self._order), *layer.shape)

    def _put(self, save: Save, kv: KeyValues) -> None:
        try:
            self._store.put(save.ids, kv)
        except PalimpsestError as wrong:
            logger.warning("A context was not stored: %s", wrong)
        except Exception:
            logger.exception("A context could not be stored.")


def _numbers(name: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", name)]
