"""The compiled pass as the model calls it: the thread pool that runs a step, and the descriptor the step runs from."""

import threading
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch

from palimpsest.lm.blocks import BLOCK, BlockPool
from palimpsest.lm.cpu import descriptor as d
from palimpsest.lm.cpu.step import PHASES_PER_LAYER, SYNC_STRIDE, run_step
from palimpsest.lm.cpu.vectors import LANES
from palimpsest.lm.forward import Copies
from palimpsest.lm.paged_cache import PagedCache
from palimpsest.lm.weights import LlamaWeights

MAX_ROWS = 256
"""Rows of one compiled step; more are run as several."""

_SMALL_NORM = 8192
_SMALL_ATTENTION = 1 << 18
"""Work, in elements, below which handing it to another thread takes longer than doing it."""

_OF_STEP = [
    d.ROWS, d.OUT_ROWS, d.POSITIONS, d.TABLES, d.TABLE_STARTS, d.OUT_INDEX, d.KEEP, d.KEEP_STRIDE, d.FEW_ROWS,
    d.SHORT_PAST, d.COPIES, d.COPY_TABLES,
]  # fmt: skip
"""Entries of the descriptor that change with every step."""

if BLOCK != LANES:  # pragma: no cover
    raise ImportError("a cache block must be as long as a kernel's vector")


class ThreadPool:
    """The calling thread and ``threads - 1`` others, which sleep between steps. One step runs at a time."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.flags = np.zeros(16, dtype=np.int64)
        self._work: tuple[Callable[..., None], tuple[object, ...]] | None = None
        self._closed = False
        self._ticket = 0
        self._wake = [threading.Semaphore(0) for _ in range(threads - 1)]
        for number, wake in enumerate(self._wake, start=1):
            threading.Thread(
                target=self._serve, args=(number, wake), name=f"step-{number}", daemon=True
            ).start()

    def _serve(self, number: int, wake: threading.Semaphore) -> None:
        while True:
            wake.acquire()
            work = self._work
            if self._closed or work is None:
                return
            work[0](number, *work[1])

    def wait_idle(self) -> None:
        """Wait until every other thread has left the last step; then its descriptor may change."""
        while self.flags[8]:
            time.sleep(0)

    def run(self, step: Callable[..., None], *arguments: object) -> None:
        """Run ``step(thread, ticket, *arguments)`` on all threads; returns when the work is done."""
        self._ticket += 1
        self._work = (step, (self._ticket, *arguments))
        for wake in self._wake:
            wake.release()
        step(0, self._ticket, *arguments)

    def close(self) -> None:
        """Stop the threads."""
        self._closed = True
        for wake in self._wake:
            wake.release()


class CompiledForward:
    """The compiled pass over one model's weights and cache pool; see ``step.py``.

    Parameters
    ----------
    weights
        Fused weights on the CPU, float32 or bfloat16, with sizes that are multiples of 16.
    pool
        Where keys and values live; of the same dtype.
    threads
        Threads of one step.
    """

    def __init__(self, weights: LlamaWeights, pool: BlockPool, threads: int) -> None:
        self.weights, self._pool, self._threads = weights, pool, ThreadPool(threads)
        half = weights.embedding.dtype == torch.bfloat16
        self._like = np.empty(0, dtype=np.uint16 if half else np.float32)
        self._constants = np.array([weights.eps, weights.scale])
        self._descriptor = np.zeros(d.DESCRIPTOR_SIZE, dtype=np.int64)
        phases = max(len(weights.layers) * PHASES_PER_LAYER + 4, len(weights.matrices))
        self._sync = _aligned(phases * SYNC_STRIDE)
        self._layers = np.zeros((len(weights.layers), d.LAYER_SIZE), dtype=np.int64)
        for row, layer in zip(self._layers, weights.layers, strict=True):
            tensors = (
                layer.qkv,
                layer.qkv_bias,
                layer.o,
                layer.gate_up,
                layer.down,
                layer.norm_1,
                layer.norm_2,
            )
            row[: d.KEEP_SLOT] = [_address(t) for t in (*tensors, layer.norm_q, layer.norm_k)]
        self._set(
            HEADS=weights.heads, KV_HEADS=weights.kv_heads, HEAD_SIZE=weights.head_dim, HIDDEN=weights.hidden,
            INNER=weights.inner, LAYERS=len(weights.layers), VOCAB=weights.vocab, CHUNKS=4 * threads,
            SYNC=self._sync.ctypes.data, KEYS=pool.keys.data_ptr(), VALUES=pool.values.data_ptr(),
            BLOCK_BYTES=pool.keys.stride(1) * pool.keys.element_size(),
            LAYER_BYTES=pool.keys.stride(0) * pool.keys.element_size(),
            FINAL_NORM=_address(weights.final_norm), HEAD=_address(weights.head),
        )  # fmt: skip
        self._capacity = self._outputs = self._context = self._rope = 0
        self._buffers: dict[str, torch.Tensor] = {}

    def _set(self, **values: int) -> None:
        for name, value in values.items():
            self._descriptor[getattr(d, name)] = value

    def _buffer(self, name: str, *shape: int) -> torch.Tensor:
        self._buffers[name] = torch.zeros(shape)
        self._set(**{name: self._buffers[name].data_ptr()})
        return self._buffers[name]

    def _make_room(self, rows: int, outputs: int, context: int) -> None:
        w = self.weights
        if rows > self._capacity:
            self._capacity = size = -(-rows // 8) * 8
            heads = (w.heads + 2 * w.kv_heads) * w.head_dim
            self._buffer("X", size, w.hidden)
            self._buffer("NORMED", size, w.hidden)
            self._buffer("QKV", size, heads)
            self._buffer("MIXED", size, w.heads * w.head_dim)
            self._buffer("GATE_UP", size, 2 * w.inner)
            self._buffer("ACTIVE", size, w.inner)
        if outputs > self._outputs:
            self._outputs = -(-outputs // 8) * 8
            self._buffer("OUT_NORMED", self._outputs, w.hidden)
            self._buffer("LOGITS", self._outputs, w.vocab)
        if context > self._context:
            self._context = max(1024, 1 << (context - 1).bit_length())
            # One vector more than the context: the last element of a row of scores holds the softmax's divisor.
            line = self._context + LANES
            self._buffer("SCORES", self._threads.threads * (w.heads // w.kv_heads), line)
            self._set(SCORES_STRIDE=line * 4)
            self._buffers["COS"], self._buffers["SIN"] = w.rope_tables(self._context)
            self._set(COS=self._buffers["COS"].data_ptr(), SIN=self._buffers["SIN"].data_ptr())

    @torch.inference_mode()
    def run(
        self,
        caches: Sequence[PagedCache],
        counts: Sequence[int],
        x: torch.Tensor,
        outputs: Sequence[int],
        hidden: Sequence[int],
        queries: Sequence[int],
        copies: Copies | None = None,
    ) -> tuple[torch.Tensor, dict[int, torch.Tensor], torch.Tensor]:
        """Run all layers; see :class:`palimpsest.lm.forward.Paged`."""
        tables = np.concatenate([np.asarray(cache.blocks, dtype=np.int32) for cache in caches])
        starts = np.cumsum([0, *(len(cache.blocks) for cache in caches[:-1])])
        table_starts = np.repeat(starts, counts).astype(np.int32)
        positions = np.concatenate(
            [np.arange(cache.length - n, cache.length) for cache, n in zip(caches, counts, strict=True)]
        ).astype(np.int32)
        others = None if copies is None else _flat(copies, starts)
        logits, kept, found = [], [], []
        for first in range(0, len(positions), MAX_ROWS):
            part = slice(first, first + MAX_ROWS)
            wanted = np.array([r - first for r in outputs if part.start <= r < part.stop], dtype=np.int32)
            shared = None if others is None else (others[0][first : first + MAX_ROWS + 1], others[1])
            states = self._step(x[part], positions[part], table_starts[part], tables, wanted, hidden, shared)
            # By numpy: torch would wake threads of its own, which then spin beside ours.
            logits.append(torch.from_numpy(self._buffers["LOGITS"].numpy()[: len(wanted)].copy()))
            kept.append(states)
            # The last layer's MLP is the last to read from this buffer, so what it read is still there.
            rows = [r - first for r in queries if part.start <= r < part.stop]
            found.append(torch.from_numpy(self._buffers["NORMED"].numpy()[rows]))
        states = {layer: torch.cat([k[layer] for k in kept]) for layer in hidden}
        return _joined(logits), states, _joined(found)

    def _step(
        self, x: torch.Tensor, positions: np.ndarray, table_starts: np.ndarray, tables: np.ndarray,
        outputs: np.ndarray, hidden: Sequence[int], copies: tuple[np.ndarray, np.ndarray] | None,
    ) -> dict[int, torch.Tensor]:  # fmt: skip
        rows, w = len(positions), self.weights
        self._threads.wait_idle()
        self._make_room(rows, max(1, len(outputs)), int(positions.max()) + 1)
        self._buffers["X"][:rows] = x
        self._layers[:, d.KEEP_SLOT] = -1
        inside = [layer for layer in hidden if layer < len(w.layers)]
        kept = torch.empty(max(1, len(inside)), rows, w.hidden)
        self._layers[inside, d.KEEP_SLOT] = range(len(inside))
        self._descriptor[_OF_STEP] = (
            rows, len(outputs), positions.ctypes.data, tables.ctypes.data, table_starts.ctypes.data,
            outputs.ctypes.data, kept.data_ptr(), rows * w.hidden * 4, rows * w.hidden <= _SMALL_NORM,
            (int(positions.sum()) + rows) * w.heads * w.head_dim <= _SMALL_ATTENTION,
            0 if copies is None else copies[0].ctypes.data, 0 if copies is None else copies[1].ctypes.data,
        )  # fmt: skip
        self._sync[:] = 0
        self._arrays = (positions, tables, table_starts, outputs, copies)
        self._threads.run(
            run_step, self._like, self._descriptor, self._layers, self._constants, self._threads.flags
        )
        states = {layer: kept[n] for n, layer in enumerate(inside)}
        if len(w.layers) in hidden:
            wide = self._buffers["X"][:rows]
            scale = torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + w.eps)
            states[len(w.layers)] = wide * scale * w.final_norm
        return states

    def close(self) -> None:
        """Stop the threads."""
        self._threads.close()


def _joined(parts: list[torch.Tensor]) -> torch.Tensor:
    """One after another; a single one as it is."""
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _flat(copies: Copies, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For rows that several sequences hold: where each row's others begin, and the others' tables; int32."""
    counts = [len(others) for others in copies.caches]
    tables = [starts[cache] for others in copies.caches for cache in others]
    return np.cumsum([0, *counts]).astype(np.int32), np.array(tables, dtype=np.int32)


def _address(tensor: torch.Tensor | None) -> int:
    return 0 if tensor is None else tensor.data_ptr()


def _aligned(words: int) -> np.ndarray:
    """Zeroed int64 words that start on a cache line."""
    memory = np.zeros(words + 8, dtype=np.int64)
    offset = -(memory.ctypes.data % 64 // 8) % 8
    return memory[offset : offset + words]
