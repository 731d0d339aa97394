"""What a compiled step does to single rows: products, norms, rotary positions, cache writes, attention.

Every output is computed by one thread in one fixed order of operations, so a row's result does not depend on other
rows.
"""

# ruff: noqa: ANN001, ANN201 - compiled functions are typed by numba, not by annotations
# pyright: reportArgumentType=false, reportCallIssue=false

import math

import numpy as np

from palimpsest.compiled import njit
from palimpsest.lm.cpu.descriptor import (
    B_QKV,
    BLOCK_BYTES,
    COPIES,
    COPY_TABLES,
    COS,
    HEAD_SIZE,
    HEADS,
    KEYS,
    KV_HEADS,
    LAYER_BYTES,
    MIXED,
    NORM_K,
    NORM_Q,
    POSITIONS,
    QKV,
    SCORES_STRIDE,
    SIN,
    TABLE_STARTS,
    TABLES,
    VALUES,
)
from palimpsest.lm.cpu.kernels import (
    exp_sum,
    get_f32,
    get_i32,
    max_of,
    mix_block,
    put_f32,
    put_weight,
    score_block,
)
from palimpsest.lm.cpu.tiles import tile_1x1, tile_1x2, tile_1x4, tile_1x8, tile_3x8, tile_4x2, tile_6x4
from palimpsest.lm.cpu.vectors import LANES


@njit()
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


@njit(fastmath={"reassoc", "contract", "nsz"})
def rms_norm(x, weight, out, size, eps):
    """Out = x / rms(x) * weight over size float32."""
    total = np.float32(0)
    for i in range(size):
        value = get_f32(x + 4 * i)
        total += value * value
    scale = np.float32(1.0 / math.sqrt(total / size + eps))
    for i in range(size):
        put_f32(out + 4 * i, get_f32(x + 4 * i) * scale * get_f32(weight + 4 * i))


@njit()
def rotate(x, cos, sin, size):
    """Rotary position embedding of one head in place, in the two-halves layout of transformers."""
    half = size // 2
    for i in range(half):
        a, b = get_f32(x + 4 * i), get_f32(x + 4 * (i + half))
        put_f32(x + 4 * i, a * get_f32(cos + 4 * i) - b * get_f32(sin + 4 * i))
        put_f32(x + 4 * (i + half), b * get_f32(cos + 4 * (i + half)) + a * get_f32(sin + 4 * (i + half)))


@njit()
def store_row(like, desc, table_start, position, qkv, index):
    """Put one row's k and v where a sequence's block table says."""
    heads, kv_heads, size = desc[HEADS], desc[KV_HEADS], desc[HEAD_SIZE]
    block, lane = get_i32(desc[TABLES] + 4 * (table_start + position // LANES)), position % LANES
    offset = index * desc[LAYER_BYTES] + block * desc[BLOCK_BYTES]
    width = like.itemsize
    for head in range(kv_heads):
        k = qkv + (heads + head) * size * 4
        v = k + kv_heads * size * 4
        at = offset + head * size * LANES * width
        for d in range(size):
            put_weight(like, desc[KEYS] + at + (d * LANES + lane) * width, get_f32(k + 4 * d))
            put_weight(like, desc[VALUES] + at + (lane * size + d) * width, get_f32(v + 4 * d))


@njit()
def prepare_row(like, desc, layer, row, index, eps, scale):
    """Bias, head norms and rotation of one row's q, k and v; k and v go to the caches."""
    heads, kv_heads, size = desc[HEADS], desc[KV_HEADS], desc[HEAD_SIZE]
    qkv = desc[QKV] + row * (heads + 2 * kv_heads) * size * 4
    if layer[B_QKV]:
        for i in range((heads + 2 * kv_heads) * size):
            put_f32(qkv + 4 * i, get_f32(qkv + 4 * i) + get_f32(layer[B_QKV] + 4 * i))
    position = get_i32(desc[POSITIONS] + 4 * row)
    cos, sin = desc[COS] + position * size * 4, desc[SIN] + position * size * 4
    for head in range(heads + kv_heads):
        x = qkv + head * size * 4
        weight = layer[NORM_Q] if head < heads else layer[NORM_K]
        if weight:
            rms_norm(x, weight, x, size, eps)
        rotate(x, cos, sin, size)
        if head < heads:
            for i in range(size):
                put_f32(x + 4 * i, get_f32(x + 4 * i) * scale)
    store_row(like, desc, get_i32(desc[TABLE_STARTS] + 4 * row), position, qkv, index)
    if desc[COPIES]:
        for other in range(get_i32(desc[COPIES] + 4 * row), get_i32(desc[COPIES] + 4 * row + 4)):
            store_row(like, desc, get_i32(desc[COPY_TABLES] + 4 * other), position, qkv, index)


@njit()
def attend(like, desc, row, kv_head, index, scores):
    """Attention of one row, for the query heads that share one key-value head."""
    heads, kv_heads, size = desc[HEADS], desc[KV_HEADS], desc[HEAD_SIZE]
    group, width = heads // kv_heads, like.itemsize
    count = get_i32(desc[POSITIONS] + 4 * row) + 1
    blocks = (count + LANES - 1) // LANES
    table = desc[TABLES] + 4 * get_i32(desc[TABLE_STARTS] + 4 * row)
    base = index * desc[LAYER_BYTES] + kv_head * size * LANES * width
    q = desc[QKV] + (row * (heads + 2 * kv_heads) + kv_head * group) * size * 4
    out = desc[MIXED] + (row * heads + kv_head * group) * size * 4
    stride = desc[SCORES_STRIDE]
    for block in range(blocks):
        k = desc[KEYS] + base + get_i32(table + 4 * block) * desc[BLOCK_BYTES]
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
        v = desc[VALUES] + base + get_i32(table + 4 * block) * desc[BLOCK_BYTES]
        tokens = min(LANES, count - block * LANES)
        for g in range(group):
            mix_block(like, scores + g * stride + block * LANES * 4, v, tokens, size, out + g * size * 4)
    for g in range(group):
        inverse = get_f32(scores + (g + 1) * stride - 4)
        for d in range(size):
            put_f32(out + (g * size + d) * 4, get_f32(out + (g * size + d) * 4) * inverse)


@njit()
def log_total(values):
    """Log of the sum of exp over float32 values, a multiple of LANES of them; the values are overwritten."""
    address, count = values.ctypes.data, len(values)
    top = max_of(address, count)
    return top + math.log(exp_sum(address, count, top))
