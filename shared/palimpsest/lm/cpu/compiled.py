"""The compiled forward pass for llama-shaped models on CPUs: one call without the interpreter per step.

A *row* is one new token of one sequence. A step takes any number of rows, of any number of sequences, and runs
every layer over them: the products are tiled so that the weights are read once for each eight rows.

The step is run by a small team of threads that all enter :func:`run_step`. Work in a phase is dealt in chunks from
an atomic counter, and a phase ends when its chunks are done, not when all threads have come by: a thread that
the operating system keeps waiting holds nobody up, unless it holds a chunk. Phases too short to be worth sharing
are thread 0's alone.

A row's result does not depend on the other rows, on their number, nor on the number of threads: every output is
computed by one thread in one fixed order of operations (see ``tiles.py``).
"""

# ruff: noqa: ANN001, ANN201 - compiled functions are typed by numba, not by annotations
# pyright: reportArgumentType=false, reportCallIssue=false

import math

import numba
import numpy as np
from numba import types

from palimpsest.lm.cpu.kernels import (
    atomic_add,
    atomic_get,
    exp_sum,
    get_f32,
    get_i32,
    max_of,
    mix_block,
    put_f32,
    put_weight,
    relax,
    score_block,
    silu_times,
)
from palimpsest.lm.cpu.tiles import (
    CHUNK,
    tile_1x1,
    tile_1x2,
    tile_1x4,
    tile_1x8,
    tile_3x8,
    tile_4x2,
    tile_6x4,
)
from palimpsest.lm.cpu.vectors import LANES

# Entries of the plan: sizes, then addresses.
(
    ROWS, HEADS, KV_HEADS, HEAD_SIZE, HIDDEN, INNER, LAYERS, VOCAB, OUT_ROWS, CHUNKS,
    SYNC, X, NORMED, QKV, MIXED, GATE_UP, ACTIVE, SCORES, SCORES_STRIDE,
    POSITIONS, TABLES, TABLE_STARTS, KEYS, VALUES, BLOCK_BYTES, LAYER_BYTES,
    COS, SIN, OUT_INDEX, OUT_NORMED, LOGITS, FINAL_NORM, HEAD, KEEP, KEEP_STRIDE,
    FEW_ROWS, SHORT_PAST, COPIES, COPY_TABLES, PLAN_SIZE,
) = range(40)  # fmt: skip

# Columns of the layer table: addresses; 0 where the model has no such tensor.
W_QKV, B_QKV, W_O, W_GATE_UP, W_DOWN, NORM_1, NORM_2, NORM_Q, NORM_K, KEEP_SLOT, LAYER_SIZE = range(11)

PHASES_PER_LAYER = 8
SYNC_STRIDE = 16
"""int64 words per phase: two counters, each on its own cache line."""

_yield = types.ExternalFunction("sched_yield", types.int32())
_SPINS = 200
"""Looks before the processor is offered to others; more, and two threads on one free core use up whole time slices."""


@numba.njit(nogil=True, cache=True)
def product(like, w, w_stride, x, x_stride, y, y_stride, k, first, last, rows, add):
    """y[r, i] (+)= w[i] . x[r] for weight rows first..last; buffers are padded to whole tiles of rows."""
    r = 0
    while r < rows:
        left, xr, yr, i = rows - r, x + r * x_stride, y + r * y_stride, first
        if left > 4:
            while i + 3 <= last:
                tile_3x8(like, w + i * w_stride, w_stride, xr, x_stride, yr + i * 4, y_stride, k, add)
                i += 3
            while i < last:
                tile_1x8(like, w + i * w_stride, w_stride, xr, x_stride, yr + i * 4, y_stride, k, add)
                i += 1
            r += 8
        elif left > 2:
            while i + 6 <= last:
                tile_6x4(like, w + i * w_stride, w_stride, xr, x_stride, yr + i * 4, y_stride, k, add)
                i += 6
            while i < last:
                tile_1x4(like, w + i * w_stride, w_stride, xr, x_stride, yr + i * 4, y_stride, k, add)
                i += 1
            r += 4
        elif left == 2:
            while i + 4 <= last:
                tile_4x2(like, w + i * w_stride, w_stride, xr, x_stride, yr + i * 4, y_stride, k, add)
                i += 4
            while i < last:
                tile_1x2(like, w + i * w_stride, w_stride, xr, x_stride, yr + i * 4, y_stride, k, add)
                i += 1
            r += 2
        else:
            while i < last:
                tile_1x1(like, w + i * w_stride, w_stride, xr, x_stride, yr + i * 4, y_stride, k, add)
                i += 1
            r += 1


@numba.njit(nogil=True, cache=True, fastmath={"reassoc", "contract", "nsz"})
def rms_norm(x, weight, out, size, eps):
    """Out = x / rms(x) * weight over size float32."""
    total = np.float32(0)
    for i in range(size):
        value = get_f32(x + 4 * i)
        total += value * value
    scale = np.float32(1.0 / math.sqrt(total / size + eps))
    for i in range(size):
        put_f32(out + 4 * i, get_f32(x + 4 * i) * scale * get_f32(weight + 4 * i))


@numba.njit(nogil=True, cache=True)
def rotate(x, cos, sin, size):
    """Rotary position embedding of one head in place, in the two-halves layout of transformers."""
    half = size // 2
    for i in range(half):
        a, b = get_f32(x + 4 * i), get_f32(x + 4 * (i + half))
        put_f32(x + 4 * i, a * get_f32(cos + 4 * i) - b * get_f32(sin + 4 * i))
        put_f32(x + 4 * (i + half), b * get_f32(cos + 4 * (i + half)) + a * get_f32(sin + 4 * (i + half)))


@numba.njit(nogil=True, cache=True)
def store_row(like, plan, table_start, position, qkv, index):
    """Put one row's k and v where a sequence's block table says."""
    heads, kv_heads, size = plan[HEADS], plan[KV_HEADS], plan[HEAD_SIZE]
    block, lane = get_i32(plan[TABLES] + 4 * (table_start + position // LANES)), position % LANES
    place = index * plan[LAYER_BYTES] + block * plan[BLOCK_BYTES]
    width = like.itemsize
    for head in range(kv_heads):
        k = qkv + (heads + head) * size * 4
        v = k + kv_heads * size * 4
        at = place + head * size * LANES * width
        for d in range(size):
            put_weight(like, plan[KEYS] + at + (d * LANES + lane) * width, get_f32(k + 4 * d))
            put_weight(like, plan[VALUES] + at + (lane * size + d) * width, get_f32(v + 4 * d))


@numba.njit(nogil=True, cache=True)
def prepare_row(like, plan, layer, row, index, eps, scale):
    """Bias, head norms and rotation of one row's q, k and v; k and v go to the row's places in the caches."""
    heads, kv_heads, size = plan[HEADS], plan[KV_HEADS], plan[HEAD_SIZE]
    qkv = plan[QKV] + row * (heads + 2 * kv_heads) * size * 4
    if layer[B_QKV]:
        for i in range((heads + 2 * kv_heads) * size):
            put_f32(qkv + 4 * i, get_f32(qkv + 4 * i) + get_f32(layer[B_QKV] + 4 * i))
    position = get_i32(plan[POSITIONS] + 4 * row)
    cos, sin = plan[COS] + position * size * 4, plan[SIN] + position * size * 4
    for head in range(heads + kv_heads):
        x = qkv + head * size * 4
        weight = layer[NORM_Q] if head < heads else layer[NORM_K]
        if weight:
            rms_norm(x, weight, x, size, eps)
        rotate(x, cos, sin, size)
        if head < heads:
            for i in range(size):
                put_f32(x + 4 * i, get_f32(x + 4 * i) * scale)
    store_row(like, plan, get_i32(plan[TABLE_STARTS] + 4 * row), position, qkv, index)
    if plan[COPIES]:
        for other in range(get_i32(plan[COPIES] + 4 * row), get_i32(plan[COPIES] + 4 * row + 4)):
            store_row(like, plan, get_i32(plan[COPY_TABLES] + 4 * other), position, qkv, index)


@numba.njit(nogil=True, cache=True)
def attend(like, plan, row, kv_head, index, scores):
    """Attention of one row, for the query heads that share one key-value head."""
    heads, kv_heads, size = plan[HEADS], plan[KV_HEADS], plan[HEAD_SIZE]
    group, width = heads // kv_heads, like.itemsize
    count = get_i32(plan[POSITIONS] + 4 * row) + 1
    blocks = (count + LANES - 1) // LANES
    table = plan[TABLES] + 4 * get_i32(plan[TABLE_STARTS] + 4 * row)
    base = index * plan[LAYER_BYTES] + kv_head * size * LANES * width
    q = plan[QKV] + (row * (heads + 2 * kv_heads) + kv_head * group) * size * 4
    out = plan[MIXED] + (row * heads + kv_head * group) * size * 4
    stride = plan[SCORES_STRIDE]
    for block in range(blocks):
        k = plan[KEYS] + base + get_i32(table + 4 * block) * plan[BLOCK_BYTES]
        for g in range(group):
            score_block(like, q + g * size * 4, k, size, scores + g * stride + block * LANES * 4)
    for g in range(group):
        line = scores + g * stride
        for t in range(count, blocks * LANES):
            put_f32(line + 4 * t, np.float32(-np.inf))
        total = exp_sum(line, blocks * LANES, max_of(line, blocks * LANES))
        put_f32(line + stride - 4, np.float32(1.0) / total)
        for d in range(size):
            put_f32(out + (g * size + d) * 4, np.float32(0))
    for block in range(blocks):
        v = plan[VALUES] + base + get_i32(table + 4 * block) * plan[BLOCK_BYTES]
        tokens = min(LANES, count - block * LANES)
        for g in range(group):
            mix_block(like, scores + g * stride + block * LANES * 4, v, tokens, size, out + g * size * 4)
    for g in range(group):
        inverse = get_f32(scores + (g + 1) * stride - 4)
        for d in range(size):
            put_f32(out + (g * size + d) * 4, get_f32(out + (g * size + d) * 4) * inverse)


@numba.njit(nogil=True, cache=True)
def log_total(values):
    """Log of the sum of exp over float32 values, a multiple of LANES of them; the values are used up."""
    address, count = values.ctypes.data, len(values)
    top = max_of(address, count)
    return top + math.log(exp_sum(address, count, top))


@numba.njit(nogil=True, cache=True)
def take(sync, phase):
    """The next chunk of a phase; past the last one when all are dealt."""
    return atomic_add(sync + phase * SYNC_STRIDE * 8, 1)


@numba.njit(nogil=True, cache=True)
def finish(sync, phase):
    """Count a chunk as done."""
    atomic_add(sync + phase * SYNC_STRIDE * 8 + 64, 1)


@numba.njit(nogil=True, cache=True)
def settle(sync, phase, chunks):
    """Wait until all chunks of a phase are done; returns the next phase."""
    done, spins = sync + phase * SYNC_STRIDE * 8 + 64, 0
    while atomic_get(done) < chunks:
        spins += 1
        if spins < _SPINS:
            relax()
        else:
            _yield()
    return phase + 1


@numba.njit(nogil=True, cache=True)
def matmul(like, plan, phase, w, k, n, x, y, add):
    """One phase: y[rows, n] (+)= x[rows, k] w[n, k]^T."""
    sync, step = plan[SYNC], max(CHUNK, n // (CHUNK * plan[CHUNKS]) * CHUNK)
    chunks = (n + step - 1) // step
    c = take(sync, phase)
    while c < chunks:
        last = min(n, (c + 1) * step)
        product(like, w, k * like.itemsize, x, k * 4, y, n * 4, k, c * step, last, plan[ROWS], add)
        finish(sync, phase)
        c = take(sync, phase)
    return settle(sync, phase, chunks)


@numba.njit(nogil=True, cache=True)
def gated(like, plan, phase, w):
    """One phase: silu(x gate^T) * (x up^T), with gate above up in one matrix."""
    sync, n, k = plan[SYNC], plan[INNER], plan[HIDDEN]
    step = max(CHUNK, n // (CHUNK * plan[CHUNKS]) * CHUNK)
    chunks = (n + step - 1) // step
    x, y, stride = plan[NORMED], plan[GATE_UP], k * like.itemsize
    c = take(sync, phase)
    while c < chunks:
        first, last = c * step, min(n, (c + 1) * step)
        product(like, w, stride, x, k * 4, y, n * 8, k, first, last, plan[ROWS], False)
        product(like, w, stride, x, k * 4, y, n * 8, k, n + first, n + last, plan[ROWS], False)
        for row in range(plan[ROWS]):
            gate = y + row * n * 8 + first * 4
            silu_times(gate, gate + n * 4, plan[ACTIVE] + (row * n + first) * 4, last - first)
        finish(sync, phase)
        c = take(sync, phase)
    return settle(sync, phase, chunks)


@numba.njit(nogil=True, cache=True)
def normalize(thread, plan, phase, weight, keep, eps):
    """One phase: the norm of every row; the unnormalised rows are kept if someone wants the hidden state."""
    sync, rows, size = plan[SYNC], plan[ROWS], plan[HIDDEN]
    r = rows if thread and plan[FEW_ROWS] else take(sync, phase)
    while r < rows:
        x = plan[X] + r * size * 4
        if keep >= 0:
            copy = plan[KEEP] + keep * plan[KEEP_STRIDE] + r * size * 4
            for i in range(size):
                put_f32(copy + 4 * i, get_f32(x + 4 * i))
        rms_norm(x, weight, plan[NORMED] + r * size * 4, size, eps)
        finish(sync, phase)
        r = take(sync, phase)
    return settle(sync, phase, rows)


@numba.njit(nogil=True, cache=True)
def run_layer(thread, like, plan, layer, index, phase, scores, eps, scale):
    """One transformer layer over all rows; returns the next phase."""
    sync, rows, kv_heads = plan[SYNC], plan[ROWS], plan[KV_HEADS]
    mixed, hidden = plan[HEADS] * plan[HEAD_SIZE], plan[HIDDEN]
    width = mixed + 2 * kv_heads * plan[HEAD_SIZE]
    phase = normalize(thread, plan, phase, layer[NORM_1], layer[KEEP_SLOT], eps)
    phase = matmul(like, plan, phase, layer[W_QKV], hidden, width, plan[NORMED], plan[QKV], False)
    r = rows if thread and plan[FEW_ROWS] else take(sync, phase)
    while r < rows:
        prepare_row(like, plan, layer, r, index, eps, scale)
        finish(sync, phase)
        r = take(sync, phase)
    phase = settle(sync, phase, rows)
    c = rows * kv_heads if thread and plan[SHORT_PAST] else take(sync, phase)
    while c < rows * kv_heads:
        # The longest rows come last in a prompt; dealing them first evens out the threads.
        attend(like, plan, rows - 1 - c // kv_heads, c % kv_heads, index, scores)
        finish(sync, phase)
        c = take(sync, phase)
    phase = settle(sync, phase, rows * kv_heads)
    phase = matmul(like, plan, phase, layer[W_O], mixed, hidden, plan[MIXED], plan[X], True)
    phase = normalize(thread, plan, phase, layer[NORM_2], -1, eps)
    phase = gated(like, plan, phase, layer[W_GATE_UP])
    return matmul(like, plan, phase, layer[W_DOWN], plan[INNER], hidden, plan[ACTIVE], plan[X], True)


@numba.njit(nogil=True, cache=True)
def enter(thread, ticket, gate):
    """Come into the step with this ticket, which thread 0 opens; False if it is over."""
    if thread == 0:
        atomic_add(gate, ticket)
    atomic_add(gate + 64, 1)
    if atomic_get(gate) == ticket:
        return True
    atomic_add(gate + 64, -1)
    return False


@numba.njit(nogil=True, cache=True)
def leave(thread, ticket, gate):
    """Go out of a step; thread 0 closes it, so that nobody comes in any more."""
    if thread == 0:
        atomic_add(gate, -ticket)
    atomic_add(gate + 64, -1)


@numba.njit(nogil=True, cache=True)
def run_step(thread, ticket, like, plan, layers, numbers, flags):
    """Run one step as one of the team's threads; those who come late find it closed, or the next one open.

    Parameters are arrays that stay where they are between steps: ``plan`` and ``layers`` hold sizes and addresses,
    ``numbers`` the norm's epsilon and the attention scale, ``flags`` the open step's ticket and the threads inside.
    """
    if not enter(thread, ticket, flags.ctypes.data):
        return
    eps, scale = numbers[0], np.float32(numbers[1])
    scores = plan[SCORES] + thread * plan[SCORES_STRIDE] * (plan[HEADS] // plan[KV_HEADS])
    phase = 0
    for index in range(plan[LAYERS]):
        phase = run_layer(thread, like, plan, layers[index], index, phase, scores, eps, scale)
    sync, rows, size = plan[SYNC], plan[OUT_ROWS], plan[HIDDEN]
    r = take(sync, phase)
    while r < rows:
        x = plan[X] + get_i32(plan[OUT_INDEX] + 4 * r) * size * 4
        rms_norm(x, plan[FINAL_NORM], plan[OUT_NORMED] + r * size * 4, size, eps)
        finish(sync, phase)
        r = take(sync, phase)
    phase = settle(sync, phase, rows)
    n, step = plan[VOCAB], max(CHUNK, plan[VOCAB] // (CHUNK * plan[CHUNKS] * 4) * CHUNK)
    chunks = (n + step - 1) // step if rows else 0
    c = take(sync, phase)
    while c < chunks:
        last, x, y = min(n, (c + 1) * step), plan[OUT_NORMED], plan[LOGITS]
        product(
            like, plan[HEAD], size * like.itemsize, x, size * 4, y, n * 4, size, c * step, last, rows, False
        )
        finish(sync, phase)
        c = take(sync, phase)
    settle(sync, phase, chunks)
    leave(thread, ticket, flags.ctypes.data)


@numba.njit(nogil=True, cache=True)
def read_weights(thread, ticket, like, matrices, plan, sync, flags):
    """The floor: multiply every matrix once with one row and do nothing else. For benchmarks."""
    if not enter(thread, ticket, flags.ctypes.data):
        return
    for m in range(len(matrices)):
        n, k = matrices[m, 1], matrices[m, 2]
        step = max(CHUNK, n // (CHUNK * plan[CHUNKS]) * CHUNK)
        chunks = (n + step - 1) // step
        c = take(sync, m)
        while c < chunks:
            last = min(n, (c + 1) * step)
            product(like, matrices[m, 0], k * like.itemsize, plan[X], k * 4, plan[LOGITS], n * 4, k, c * step, last,
                    plan[ROWS], False)  # fmt: skip
            finish(sync, m)
            c = take(sync, m)
        settle(sync, m, chunks)
    leave(thread, ticket, flags.ctypes.data)
