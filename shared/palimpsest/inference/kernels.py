"""Vector kernels for the compiled forward pass: written as LLVM IR through numba, on raw addresses.

Everything here works on memory by address (int64), because a whole forward pass is one compiled call that must
not touch Python objects. Lengths are counts of elements, strides are bytes. Every vector loop steps by
:data:`LANES` elements, so all lengths are multiples of it; the caller (``compiled.py``) sees to that.

One rule makes results independent of the batch: the dot product of a weight row and an activation row is always
one chain of fused multiply-adds over lanes, in order, and one fixed reduction tree, whichever tile it is in.
"""

# ruff: noqa: ANN001, ANN002, ANN201, ANN202 - numba's intrinsics are typed by numba, not by annotations
# pyright: reportArgumentType=false, reportCallIssue=false

import llvmlite.binding
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

LANES = 16
"""float32 lanes of one vector in memory layouts (KV blocks, padding). Processors with less split it."""

_I64 = ir.IntType(64)
_I32 = ir.IntType(32)
_F32 = ir.FloatType()
_VEC = ir.VectorType(_F32, LANES)
_VECI = ir.VectorType(_I32, LANES)

TILES = ((1, 1), (4, 2), (6, 4), (3, 8))
"""(weight rows, activation rows) of the register tiles: as many as 32 registers of 16 lanes hold."""

CHUNK = 48
"""Weight rows are dealt to threads in multiples of this: of every tile height, and of :data:`LANES`."""

_FEATURES = llvmlite.binding.get_host_cpu_features()
_REGISTER = 16 if _FEATURES.get("avx512f") else 8 if _FEATURES.get("avx") else 4
"""float32 lanes of one register."""

_MOST_SUMS = 12 if _FEATURES.get("avx") and not _FEATURES.get("avx512f") else 24
"""Registers that may hold sums: of 16 where vectors are AVX's, of 32 elsewhere."""

_X86 = llvmlite.binding.get_default_triple().startswith(("x86_64", "i686"))


def _pointer(b, address, kind):
    return b.inttoptr(address, ir.PointerType(kind))


def _load(b, address, kind, align):
    return b.load(_pointer(b, address, kind), align=align, typ=kind)


def _splat(b, value):
    empty = ir.Constant(_VEC, ir.Undefined)
    first = b.insert_element(empty, value, ir.Constant(_I32, 0))
    return b.shuffle_vector(first, empty, ir.Constant(_VECI, [0] * LANES))


def _constant(value):
    return ir.Constant(_VEC, [float(value)] * LANES)


def _integers(value):
    return ir.Constant(_VECI, [int(value)] * LANES)


def _call(b, name, *arguments):
    kind = arguments[0].type
    function = cgutils.get_or_insert_function(
        b.module, ir.FunctionType(kind, [a.type for a in arguments]), name
    )
    return b.call(function, arguments)


def _fma(b, x, y, z):
    return _call(b, f"llvm.fma.v{LANES}f32", x, y, z)


def _widen(b, address, half: bool, lanes: int = LANES):
    """Weights at an address as float32; bfloat16 is the upper half of a float32."""
    kind, whole = ir.VectorType(_F32, lanes), ir.VectorType(_I32, lanes)
    if not half:
        return _load(b, address, kind, 4)
    bits = b.zext(_load(b, address, ir.VectorType(ir.IntType(16), lanes), 2), whole)
    return b.bitcast(b.shl(bits, ir.Constant(whole, [16] * lanes)), kind)


def _prefetch(b, address):
    # The hardware follows one stream of weights, not the several of a tile: without this, tiles are twice as slow.
    pointer = ir.PointerType(ir.IntType(8))
    kind = ir.FunctionType(ir.VoidType(), [pointer, _I32, _I32, _I32])
    function = cgutils.get_or_insert_function(b.module, kind, "llvm.prefetch.p0")
    read, into_l2, data = (ir.Constant(_I32, n) for n in (0, 2, 1))
    b.call(function, [b.inttoptr(address, pointer), read, into_l2, data])


def _is_half(like: types.Array) -> bool:
    return like.dtype == types.uint16


def _reduce(b, vectors):
    """Sum each vector over its lanes: always (i, i+8), (i, i+4), (i, i+2), (i, i+1). Returns scalars."""
    count, segment = len(vectors), LANES
    groups = [(vector, [n]) for n, vector in enumerate(vectors)]
    while segment > 1:
        half = segment // 2
        merged = []
        for n in range(0, len(groups), 2):
            left, names = groups[n]
            right, others = groups[n + 1] if n + 1 < len(groups) else (left, names)
            starts = range(0, LANES, segment)
            low = [s + i for s in starts for i in range(half)]
            both = low + [LANES + i for i in low]
            lows = b.shuffle_vector(left, right, ir.Constant(_VECI, both))
            highs = b.shuffle_vector(left, right, ir.Constant(_VECI, [i + half for i in both]))
            merged.append((b.fadd(lows, highs), names + others))
        groups, segment = merged, half
    scalars = {}
    for vector, names in groups:
        for lane, name in enumerate(names[:LANES]):
            if name not in scalars:
                scalars[name] = b.extract_element(vector, ir.Constant(_I32, lane))
    return [scalars[n] for n in range(count)]


def _sum(b, half, part, weights, activations, k, prefetch):
    """The sums of some (row, column) pairs of a tile over k: {pair: vector}."""
    (w, w_stride, rows), (x, x_stride) = weights, activations
    strip = LANES if len(part) * LANES // _REGISTER <= _MOST_SUMS else _REGISTER
    kind, joined = ir.VectorType(_F32, strip), {pair: [] for pair in part}
    next_tile = b.mul(w_stride, ir.Constant(_I64, rows))
    for offset in range(0, LANES, strip):
        zero = ir.Constant(kind, [0.0] * strip)
        slots = {pair: cgutils.alloca_once_value(b, zero) for pair in part}
        with cgutils.for_range_slice(b, ir.Constant(_I64, 0), k, ir.Constant(_I64, LANES), inc=True) as (
            i,
            _,
        ):
            at = b.add(i, ir.Constant(_I64, offset))
            w_at = b.add(w, b.mul(at, ir.Constant(_I64, 2 if half else 4)))
            x_at = b.add(x, b.mul(at, ir.Constant(_I64, 4)))
            w_rows = {r: b.add(w_at, b.mul(w_stride, ir.Constant(_I64, r))) for r, _ in part}
            if prefetch and offset == 0:
                for address in w_rows.values():
                    _prefetch(b, b.add(address, next_tile))
            values = {r: _widen(b, address, half, strip) for r, address in w_rows.items()}
            for c in sorted({c for _, c in part}):
                value = _load(b, b.add(x_at, b.mul(x_stride, ir.Constant(_I64, c))), kind, 4)
                for r in values:
                    slot = slots[r, c]
                    b.store(_call(b, f"llvm.fma.v{strip}f32", values[r], value, b.load(slot)), slot)
        for pair, slot in slots.items():
            joined[pair].append(b.load(slot))
    return {pair: _join(b, strips, strip) for pair, strips in joined.items()}


def _join(b, strips, strip):
    """One vector of :data:`LANES` from strips of it."""
    while len(strips) > 1:
        places = ir.Constant(ir.VectorType(_I32, 2 * strip), list(range(2 * strip)))
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
            sums |= _sum(b, half, part, (w, w_stride, rows), (x, x_stride), k, prefetch=left == 0)
    totals = _reduce(b, [sums[r, c] for c in range(columns) for r in range(rows)])
    for c in range(columns):
        out = b.add(y, b.mul(y_stride, ir.Constant(_I64, c)))
        for r in range(rows):
            pointer = _pointer(b, b.add(out, ir.Constant(_I64, 4 * r)), _F32)
            old = b.load(pointer, typ=_F32)
            total = b.select(add, b.fadd(old, totals[c * rows + r]), totals[c * rows + r])
            b.store(total, pointer)


def _make_tile(rows: int, columns: int):
    @intrinsic
    def tile(context, like, w, w_stride, x, x_stride, y, y_stride, k, add):
        signature = types.void(like, *[types.int64] * 7, types.boolean)

        def generate(context, b, signature, arguments):
            flag = (
                b.trunc(arguments[8], ir.IntType(1)) if arguments[8].type != ir.IntType(1) else arguments[8]
            )
            _tile(b, _is_half(signature.args[0]), rows, columns, *arguments[1:8], flag)

        return signature, generate

    return tile


tile_1x1, tile_4x2, tile_6x4, tile_3x8 = (_make_tile(*shape) for shape in TILES)
tile_1x2, tile_1x4, tile_1x8 = (_make_tile(1, columns) for columns in (2, 4, 8))


def _exp(b, x):
    """Exp of a vector, to about one unit in the last place of float32 (Cephes' polynomial)."""
    x = _call(b, f"llvm.maxnum.v{LANES}f32", x, _constant(-87.0))
    x = _call(b, f"llvm.minnum.v{LANES}f32", x, _constant(88.0))
    n = _call(b, f"llvm.rint.v{LANES}f32", b.fmul(x, _constant(1.44269504088896341)))
    r = _fma(b, n, _constant(-0.693359375), x)
    r = _fma(b, n, _constant(2.12194440e-4), r)
    p = _constant(1.9875691500e-4)
    for c in (1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1):
        p = _fma(b, p, r, _constant(c))
    p = _fma(b, p, b.fmul(r, r), b.fadd(r, _constant(1.0)))
    exponent = b.shl(b.fptosi(n, _VECI), _integers(23))
    return b.bitcast(b.add(b.bitcast(p, _VECI), exponent), _VEC)


@intrinsic
def silu_times(context, gate, up, out, count):
    """Out = silu(gate) * up, all float32, count elements."""
    signature = types.void(*[types.int64] * 4)

    def generate(context, b, signature, arguments):
        gate, up, out, count = arguments
        step = ir.Constant(_I64, LANES)
        with cgutils.for_range_slice(b, ir.Constant(_I64, 0), count, step, inc=True) as (i, _):
            at = b.mul(i, ir.Constant(_I64, 4))
            g = _load(b, b.add(gate, at), _VEC, 4)
            u = _load(b, b.add(up, at), _VEC, 4)
            divisor = b.fadd(_constant(1.0), _exp(b, b.fneg(g)))
            b.store(b.fmul(b.fdiv(g, divisor), u), _pointer(b, b.add(out, at), _VEC), align=4)

    return signature, generate


@intrinsic
def exp_sum(context, values, count, shift):
    """Values = exp(values - shift) in place; returns the sum. count is a multiple of LANES."""
    signature = types.float32(types.int64, types.int64, types.float32)

    def generate(context, b, signature, arguments):
        values, count, shift = arguments
        shift = _splat(b, shift)
        total = cgutils.alloca_once_value(b, _constant(0))
        step = ir.Constant(_I64, LANES)
        with cgutils.for_range_slice(b, ir.Constant(_I64, 0), count, step, inc=True) as (i, _):
            at = b.add(values, b.mul(i, ir.Constant(_I64, 4)))
            e = _exp(b, b.fsub(_load(b, at, _VEC, 4), shift))
            b.store(e, _pointer(b, at, _VEC), align=4)
            b.store(b.fadd(b.load(total), e), total)
        return _reduce(b, [b.load(total)])[0]

    return signature, generate


@intrinsic
def max_of(context, values, count):
    """The largest of count float32, a multiple of LANES."""

    def generate(context, b, signature, arguments):
        values, count = arguments
        top = cgutils.alloca_once_value(b, _constant(float("-inf")))
        step = ir.Constant(_I64, LANES)
        with cgutils.for_range_slice(b, ir.Constant(_I64, 0), count, step, inc=True) as (i, _):
            line = _load(b, b.add(values, b.mul(i, ir.Constant(_I64, 4))), _VEC, 4)
            b.store(_call(b, f"llvm.maxnum.v{LANES}f32", line, b.load(top)), top)
        vector, width = b.load(top), LANES
        while width > 1:
            width //= 2
            lanes = [(i + width) % LANES for i in range(LANES)]
            other = b.shuffle_vector(vector, vector, ir.Constant(_VECI, lanes))
            vector = _call(b, f"llvm.maxnum.v{LANES}f32", vector, other)
        return b.extract_element(vector, ir.Constant(_I32, 0))

    return types.float32(types.int64, types.int64), generate


@intrinsic
def score_block(context, like, q, k, size, out):
    """out[t] = sum over d of q[d] * k[d, t], for the LANES tokens t of one key block [size, LANES]."""
    signature = types.void(like, *[types.int64] * 4)

    def generate(context, b, signature, arguments):
        half = _is_half(signature.args[0])
        _, q, k, size, out = arguments
        chains = 4
        sums = [cgutils.alloca_once_value(b, _constant(0)) for _ in range(chains)]
        step = ir.Constant(_I64, chains)
        with cgutils.for_range_slice(b, ir.Constant(_I64, 0), size, step, inc=True) as (d, _):
            for c in range(chains):
                index = b.add(d, ir.Constant(_I64, c))
                value = _splat(b, _load(b, b.add(q, b.mul(index, ir.Constant(_I64, 4))), _F32, 4))
                at = b.add(k, b.mul(index, ir.Constant(_I64, LANES * (2 if half else 4))))
                b.store(_fma(b, value, _widen(b, at, half), b.load(sums[c])), sums[c])
        parts = [b.load(s) for s in sums]
        total = b.fadd(b.fadd(parts[0], parts[1]), b.fadd(parts[2], parts[3]))
        b.store(total, _pointer(b, out, _VEC), align=4)

    return signature, generate


@intrinsic
def mix_block(context, like, p, v, tokens, size, out):
    """out[d] += sum over t of p[t] * v[t, d], for one value block [LANES, size] of which tokens are in use."""
    signature = types.void(like, *[types.int64] * 5)

    def generate(context, b, signature, arguments):
        half = _is_half(signature.args[0])
        _, p, v, tokens, size, out = arguments
        zero, width = ir.Constant(_I64, 0), 2 if half else 4

        def columns(start, vectors):
            at = b.add(out, b.mul(start, ir.Constant(_I64, 4)))
            offsets = [ir.Constant(_I64, 4 * LANES * n) for n in range(vectors)]
            sums = [cgutils.alloca_once_value(b, _constant(0)) for _ in range(vectors)]
            for slot, offset in zip(sums, offsets, strict=True):
                b.store(_load(b, b.add(at, offset), _VEC, 4), slot)
            with cgutils.for_range_slice(b, zero, tokens, ir.Constant(_I64, 1), inc=True) as (t, _):
                weight = _splat(b, _load(b, b.add(p, b.mul(t, ir.Constant(_I64, 4))), _F32, 4))
                row = b.mul(b.add(b.mul(t, size), start), ir.Constant(_I64, width))
                for n, slot in enumerate(sums):
                    where = b.add(b.add(v, row), ir.Constant(_I64, width * LANES * n))
                    b.store(_fma(b, weight, _widen(b, where, half), b.load(slot)), slot)
            for slot, offset in zip(sums, offsets, strict=True):
                b.store(b.load(slot), _pointer(b, b.add(at, offset), _VEC), align=4)

        wide = b.and_(size, ir.Constant(_I64, ~(4 * LANES - 1)))
        with cgutils.for_range_slice(b, zero, wide, ir.Constant(_I64, 4 * LANES), inc=True) as (d, _):
            columns(d, 4)
        with cgutils.for_range_slice(b, wide, size, ir.Constant(_I64, LANES), inc=True) as (d, _):
            columns(d, 1)

    return signature, generate


@intrinsic
def get_f32(context, address):
    """The float32 at an address."""
    return types.float32(types.int64), lambda context, b, signature, a: _load(b, a[0], _F32, 4)


@intrinsic
def put_f32(context, address, value):
    """Store a float32."""

    def generate(context, b, signature, a):
        b.store(a[1], _pointer(b, a[0], _F32), align=4)

    return types.void(types.int64, types.float32), generate


@intrinsic
def put_weight(context, like, address, value):
    """Store a float32 as like's type: bfloat16 rounds to nearest, ties to even."""

    def generate(context, b, signature, a):
        if not _is_half(signature.args[0]):
            b.store(a[2], _pointer(b, a[1], _F32), align=4)
            return
        bits = b.bitcast(a[2], _I32)
        odd = b.and_(b.lshr(bits, ir.Constant(_I32, 16)), ir.Constant(_I32, 1))
        rounded = b.add(b.add(bits, ir.Constant(_I32, 0x7FFF)), odd)
        half = b.trunc(b.lshr(rounded, ir.Constant(_I32, 16)), ir.IntType(16))
        b.store(half, _pointer(b, a[1], ir.IntType(16)), align=2)

    return types.void(like, types.int64, types.float32), generate


@intrinsic
def get_i32(context, address):
    """The int32 at an address, as int64."""
    return types.int64(types.int64), lambda context, b, signature, a: b.sext(_load(b, a[0], _I32, 4), _I64)


@intrinsic
def atomic_add(context, address, value):
    """Add to the int64 at an address; returns what was there before."""

    def generate(context, b, signature, a):
        return b.atomic_rmw("add", _pointer(b, a[0], _I64), a[1], "seq_cst")

    return types.int64(types.int64, types.int64), generate


@intrinsic
def atomic_get(context, address):
    """The int64 at an address, seen after everything its writer did before."""

    def generate(context, b, signature, a):
        return b.load_atomic(_pointer(b, a[0], _I64), "seq_cst", 8, typ=_I64)

    return types.int64(types.int64), generate


@intrinsic
def relax(context):
    """Tell the processor that this is a spin loop."""

    def generate(context, b, signature, a):
        if _X86:
            function = ir.FunctionType(ir.VoidType(), [])
            b.call(cgutils.get_or_insert_function(b.module, function, "llvm.x86.sse2.pause"), [])
        return context.get_dummy_value()

    return types.void(), generate
