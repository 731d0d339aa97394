"""The compiled forward pass for llama-shaped models on CPUs: one call without the interpreter per step.

A *row* is one new token of one sequence. A step takes any number of rows, of any number of sequences, and runs
every layer over them: the products are tiled so that the weights are read once for each eight rows.

A few threads run the step together: all of them enter :func:`run_step`. They take the chunks of a phase from an atomic
counter, and a phase ends when its chunks are done, not when every thread has arrived: a thread that the operating
system has suspended delays no other unless it holds a chunk. Phases too short to share are thread 0's alone.

A row's result does not depend on the other rows, on their number, nor on the number of threads: every output is
computed by one thread in one fixed order of operations (see ``tiles.py``).
"""

# ruff: noqa: ANN001, ANN201 - compiled functions are typed by numba, not by annotations
# pyright: reportArgumentType=false, reportCallIssue=false

import numpy as np
from numba import types

from palimpsest.compiled import njit
from palimpsest.lm.cpu.descriptor import (
    ACTIVE,
    CHUNKS,
    FEW_ROWS,
    FINAL_NORM,
    GATE_UP,
    HEAD,
    HEAD_SIZE,
    HEADS,
    HIDDEN,
    INNER,
    KEEP,
    KEEP_SLOT,
    KEEP_STRIDE,
    KV_HEADS,
    LAYERS,
    LOGITS,
    MIXED,
    NORM_1,
    NORM_2,
    NORMED,
    OUT_INDEX,
    OUT_NORMED,
    OUT_ROWS,
    QKV,
    ROWS,
    SCORES,
    SCORES_STRIDE,
    SHORT_PAST,
    SYNC,
    VOCAB,
    W_DOWN,
    W_GATE_UP,
    W_O,
    W_QKV,
    X,
)
from palimpsest.lm.cpu.kernels import atomic_add, atomic_get, get_f32, get_i32, put_f32, relax, silu_times
from palimpsest.lm.cpu.operators import attend, prepare_row, product, rms_norm
from palimpsest.lm.cpu.tiles import CHUNK

PHASES_PER_LAYER = 8
SYNC_STRIDE = 16
"""int64 words per phase: two counters, each on its own cache line."""

_yield = types.ExternalFunction("sched_yield", types.int32())
_SPINS = 200
"""Spins before yielding the CPU. With more, two threads on one free core use up whole time slices."""


@njit()
def take(sync, phase):
    """Take the next chunk of a phase; returns a number past the last chunk when all are taken."""
    return atomic_add(sync + phase * SYNC_STRIDE * 8, 1)


@njit()
def finish(sync, phase):
    """Count a chunk as done."""
    atomic_add(sync + phase * SYNC_STRIDE * 8 + 64, 1)


@njit()
def barrier(sync, phase, chunks):
    """Wait until all chunks of a phase are done; returns the next phase."""
    done, spins = sync + phase * SYNC_STRIDE * 8 + 64, 0
    while atomic_get(done) < chunks:
        spins += 1
        if spins < _SPINS:
            relax()
        else:
            _yield()
    return phase + 1


@njit()
def matmul(like, desc, phase, w, k, n, x, y, add):
    """One phase: y[rows, n] (+)= x[rows, k] w[n, k]^T."""
    sync, step = desc[SYNC], max(CHUNK, n // (CHUNK * desc[CHUNKS]) * CHUNK)
    chunks = (n + step - 1) // step
    c = take(sync, phase)
    while c < chunks:
        last = min(n, (c + 1) * step)
        product(like, w, k * like.itemsize, x, k * 4, y, n * 4, k, c * step, last, desc[ROWS], add)
        finish(sync, phase)
        c = take(sync, phase)
    return barrier(sync, phase, chunks)


@njit()
def swiglu(like, desc, phase, w):
    """One phase: silu(x gate^T) * (x up^T), with gate above up in one matrix."""
    sync, n, k = desc[SYNC], desc[INNER], desc[HIDDEN]
    step = max(CHUNK, n // (CHUNK * desc[CHUNKS]) * CHUNK)
    chunks = (n + step - 1) // step
    x, y, stride = desc[NORMED], desc[GATE_UP], k * like.itemsize
    c = take(sync, phase)
    while c < chunks:
        first, last = c * step, min(n, (c + 1) * step)
        product(like, w, stride, x, k * 4, y, n * 8, k, first, last, desc[ROWS], False)
        product(like, w, stride, x, k * 4, y, n * 8, k, n + first, n + last, desc[ROWS], False)
        for row in range(desc[ROWS]):
            gate = y + row * n * 8 + first * 4
            silu_times(gate, gate + n * 4, desc[ACTIVE] + (row * n + first) * 4, last - first)
        finish(sync, phase)
        c = take(sync, phase)
    return barrier(sync, phase, chunks)


@njit()
def normalize(thread, desc, phase, weight, keep, eps):
    """One phase: the norm of every row; the unnormalised rows are kept if the hidden state is wanted."""
    sync, rows, size = desc[SYNC], desc[ROWS], desc[HIDDEN]
    r = rows if thread and desc[FEW_ROWS] else take(sync, phase)
    while r < rows:
        x = desc[X] + r * size * 4
        if keep >= 0:
            copy = desc[KEEP] + keep * desc[KEEP_STRIDE] + r * size * 4
            for i in range(size):
                put_f32(copy + 4 * i, get_f32(x + 4 * i))
        rms_norm(x, weight, desc[NORMED] + r * size * 4, size, eps)
        finish(sync, phase)
        r = take(sync, phase)
    return barrier(sync, phase, rows)


@njit()
def run_layer(thread, like, desc, layer, index, phase, scores, eps, scale):
    """One transformer layer over all rows; returns the next phase."""
    sync, rows, kv_heads = desc[SYNC], desc[ROWS], desc[KV_HEADS]
    mixed, hidden = desc[HEADS] * desc[HEAD_SIZE], desc[HIDDEN]
    width = mixed + 2 * kv_heads * desc[HEAD_SIZE]
    phase = normalize(thread, desc, phase, layer[NORM_1], layer[KEEP_SLOT], eps)
    phase = matmul(like, desc, phase, layer[W_QKV], hidden, width, desc[NORMED], desc[QKV], False)
    r = rows if thread and desc[FEW_ROWS] else take(sync, phase)
    while r < rows:
        prepare_row(like, desc, layer, r, index, eps, scale)
        finish(sync, phase)
        r = take(sync, phase)
    phase = barrier(sync, phase, rows)
    c = rows * kv_heads if thread and desc[SHORT_PAST] else take(sync, phase)
    while c < rows * kv_heads:
        # The longest rows come last in a prompt; dealing them first evens out the threads.
        attend(like, desc, rows - 1 - c // kv_heads, c % kv_heads, index, scores)
        finish(sync, phase)
        c = take(sync, phase)
    phase = barrier(sync, phase, rows * kv_heads)
    phase = matmul(like, desc, phase, layer[W_O], mixed, hidden, desc[MIXED], desc[X], True)
    phase = normalize(thread, desc, phase, layer[NORM_2], -1, eps)
    phase = swiglu(like, desc, phase, layer[W_GATE_UP])
    return matmul(like, desc, phase, layer[W_DOWN], desc[INNER], hidden, desc[ACTIVE], desc[X], True)


@njit()
def enter(thread, ticket, gate):
    """Enter the step with this ticket, which thread 0 opens; returns False if it is over."""
    if thread == 0:
        atomic_add(gate, ticket)
    atomic_add(gate + 64, 1)
    if atomic_get(gate) == ticket:
        return True
    atomic_add(gate + 64, -1)
    return False


@njit()
def leave(thread, ticket, gate):
    """Leave a step; thread 0 closes it, so that no thread enters any more."""
    if thread == 0:
        atomic_add(gate, -ticket)
    atomic_add(gate + 64, -1)


@njit()
def run_step(thread, ticket, like, desc, layers, constants, flags):
    """Run one step as one of the pool's threads; a late thread finds it closed, or the next one open.

    Parameters are arrays that stay where they are between steps: ``desc`` and ``layers`` hold sizes and addresses,
    ``constants`` the norm's epsilon and the attention scale, ``flags`` the open step's ticket and the threads inside.
    """
    if not enter(thread, ticket, flags.ctypes.data):
        return
    eps, scale = constants[0], np.float32(constants[1])
    scores = desc[SCORES] + thread * desc[SCORES_STRIDE] * (desc[HEADS] // desc[KV_HEADS])
    phase = 0
    for index in range(desc[LAYERS]):
        phase = run_layer(thread, like, desc, layers[index], index, phase, scores, eps, scale)
    sync, rows, size = desc[SYNC], desc[OUT_ROWS], desc[HIDDEN]
    r = take(sync, phase)
    while r < rows:
        x = desc[X] + get_i32(desc[OUT_INDEX] + 4 * r) * size * 4
        rms_norm(x, desc[FINAL_NORM], desc[OUT_NORMED] + r * size * 4, size, eps)
        finish(sync, phase)
        r = take(sync, phase)
    phase = barrier(sync, phase, rows)
    n, step = desc[VOCAB], max(CHUNK, desc[VOCAB] // (CHUNK * desc[CHUNKS] * 4) * CHUNK)
    chunks = (n + step - 1) // step if rows else 0
    c = take(sync, phase)
    while c < chunks:
        last, x, y = min(n, (c + 1) * step), desc[OUT_NORMED], desc[LOGITS]
        product(
            like, desc[HEAD], size * like.itemsize, x, size * 4, y, n * 4, size, c * step, last, rows, False
        )
        finish(sync, phase)
        c = take(sync, phase)
    barrier(sync, phase, chunks)
    leave(thread, ticket, flags.ctypes.data)
