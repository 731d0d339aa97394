"""Register tiles: products of a few weight rows with a few activation rows, each weight loaded once for all of them.

One rule makes results independent of the batch: the dot product of a weight row and an activation row is always
one chain of fused multiply-adds over lanes, in order, and one fixed reduction tree, whichever tile it is in.
"""

# ruff: noqa: ANN001, ANN202 - numba's intrinsics are typed by numba, not by annotations
# pyright: reportArgumentType=false, reportCallIssue=false

import llvmlite.binding
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from palimpsest.lm.cpu.vectors import (  # fmt: skip
    F32,
    I32,
    I64,
    LANES,
    call,
    is_half,
    load,
    pointer,
    prefetch,
    reduce,
    widen,
)

TILES = ((1, 1), (4, 2), (6, 4), (3, 8))
"""(weight rows, activation rows) of the register tiles: as many as 32 registers of 16 lanes hold."""

CHUNK = 48
"""Weight rows are dealt to threads in multiples of this: of every tile height, and of ``LANES``."""

_FEATURES = llvmlite.binding.get_host_cpu_features()
_REGISTER = 16 if _FEATURES.get("avx512f") else 8 if _FEATURES.get("avx") else 4
"""float32 lanes of one register."""

_MOST_SUMS = 12 if _FEATURES.get("avx") and not _FEATURES.get("avx512f") else 24
"""Registers that may hold sums: of 16 where vectors are AVX's, of 32 elsewhere."""


def _sum(b, half, part, weights, activations, k, ahead):
    """The sums of some (row, column) pairs of a tile over k: {pair: vector}."""
    (w, w_stride, rows), (x, x_stride) = weights, activations
    strip = LANES if len(part) * LANES // _REGISTER <= _MOST_SUMS else _REGISTER
    kind, joined = ir.VectorType(F32, strip), {pair: [] for pair in part}
    next_tile = b.mul(w_stride, ir.Constant(I64, rows))
    for offset in range(0, LANES, strip):
        zero = ir.Constant(kind, [0.0] * strip)
        slots = {pair: cgutils.alloca_once_value(b, zero) for pair in part}
        with cgutils.for_range_slice(b, ir.Constant(I64, 0), k, ir.Constant(I64, LANES), inc=True) as (
            i,
            _,
        ):
            at = b.add(i, ir.Constant(I64, offset))
            w_at = b.add(w, b.mul(at, ir.Constant(I64, 2 if half else 4)))
            x_at = b.add(x, b.mul(at, ir.Constant(I64, 4)))
            w_rows = {r: b.add(w_at, b.mul(w_stride, ir.Constant(I64, r))) for r, _ in part}
            if ahead and offset == 0:
                for address in w_rows.values():
                    prefetch(b, b.add(address, next_tile))
            values = {r: widen(b, address, half, strip) for r, address in w_rows.items()}
            for c in sorted({c for _, c in part}):
                value = load(b, b.add(x_at, b.mul(x_stride, ir.Constant(I64, c))), kind, 4)
                for r in values:
                    slot = slots[r, c]
                    b.store(call(b, f"llvm.fma.v{strip}f32", values[r], value, b.load(slot)), slot)
        for pair, slot in slots.items():
            joined[pair].append(b.load(slot))
    return {pair: _join(b, strips, strip) for pair, strips in joined.items()}


def _join(b, strips, strip):
    """One vector of :data:`LANES` from strips of it."""
    while len(strips) > 1:
        places = ir.Constant(ir.VectorType(I32, 2 * strip), list(range(2 * strip)))
        strips = [
            b.shuffle_vector(low, high, places) for low, high in zip(strips[::2], strips[1::2], strict=True)
        ]
        strip *= 2
    return strips[0]


def _tile(b, half, rows, columns, w, w_stride, x, x_stride, y, y_stride, k, add):
    """y[column, row] (+)= sum over k of w[row] * x[column], for one register tile.

    Where the processor's registers do not hold all the sums at once, parts of the tile are summed after each other,
    and strips of the lanes. Every lane of a sum sees the same chain of operations either way.
    """
    sums = {}
    high, wide = min(rows, 3) if rows * columns > _MOST_SUMS else rows, columns
    while high * wide > _MOST_SUMS:
        wide //= 2
    for top in range(0, rows, high):
        for left in range(0, columns, wide):
            part = [(r, c) for c in range(left, left + wide) for r in range(top, top + high)]
            sums |= _sum(b, half, part, (w, w_stride, rows), (x, x_stride), k, ahead=left == 0)
    totals = reduce(b, [sums[r, c] for c in range(columns) for r in range(rows)])
    for c in range(columns):
        out = b.add(y, b.mul(y_stride, ir.Constant(I64, c)))
        for r in range(rows):
            offset = pointer(b, b.add(out, ir.Constant(I64, 4 * r)), F32)
            old = b.load(offset, typ=F32)
            total = b.select(add, b.fadd(old, totals[c * rows + r]), totals[c * rows + r])
            b.store(total, offset)


def _make_tile(rows: int, columns: int):
    @intrinsic
    def tile(context, like, w, w_stride, x, x_stride, y, y_stride, k, add):
        signature = types.void(like, *[types.int64] * 7, types.boolean)

        def generate(context, b, signature, arguments):
            flag = (
                b.trunc(arguments[8], ir.IntType(1)) if arguments[8].type != ir.IntType(1) else arguments[8]
            )
            _tile(b, is_half(signature.args[0]), rows, columns, *arguments[1:8], flag)

        return signature, generate

    return tile


tile_1x1, tile_4x2, tile_6x4, tile_3x8 = (_make_tile(*shape) for shape in TILES)
tile_1x2, tile_1x4, tile_1x8 = (_make_tile(1, columns) for columns in (2, 4, 8))
