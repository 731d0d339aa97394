"""Vector kernels for the compiled forward pass: written as LLVM IR through numba, on raw addresses.

Everything here works on memory by address (int64), because a whole forward pass is one compiled call that must
not touch Python objects. Lengths are counts of elements, strides are bytes. Every vector loop steps by
``LANES`` elements, so all lengths are multiples of it; the caller (``compiled.py``) sees to that. Products with
weights are in ``tiles.py``.
"""

# ruff: noqa: ANN001, ANN201, ANN202 - numba's intrinsics are typed by numba, not by annotations
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
    VEC,
    VECI,
    call,
    constant,
    fma,
    integers,
    is_half,
    load,
    pointer,
    reduce,
    splat,
    widen,
)

_X86 = llvmlite.binding.get_default_triple().startswith(("x86_64", "i686"))


def _exp(b, x):
    """Exp of a vector, to about one unit in the last place of float32 (Cephes' polynomial)."""
    x = call(b, f"llvm.maxnum.v{LANES}f32", x, constant(-87.0))
    x = call(b, f"llvm.minnum.v{LANES}f32", x, constant(88.0))
    n = call(b, f"llvm.rint.v{LANES}f32", b.fmul(x, constant(1.44269504088896341)))
    r = fma(b, n, constant(-0.693359375), x)
    r = fma(b, n, constant(2.12194440e-4), r)
    p = constant(1.9875691500e-4)
    for c in (1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1):
        p = fma(b, p, r, constant(c))
    p = fma(b, p, b.fmul(r, r), b.fadd(r, constant(1.0)))
    exponent = b.shl(b.fptosi(n, VECI), integers(23))
    return b.bitcast(b.add(b.bitcast(p, VECI), exponent), VEC)


@intrinsic
def silu_times(context, gate, up, out, count):
    """Out = silu(gate) * up, all float32, count elements."""
    signature = types.void(*[types.int64] * 4)

    def generate(context, b, signature, arguments):
        gate, up, out, count = arguments
        step = ir.Constant(I64, LANES)
        with cgutils.for_range_slice(b, ir.Constant(I64, 0), count, step, inc=True) as (i, _):
            at = b.mul(i, ir.Constant(I64, 4))
            g = load(b, b.add(gate, at), VEC, 4)
            u = load(b, b.add(up, at), VEC, 4)
            divisor = b.fadd(constant(1.0), _exp(b, b.fneg(g)))
            b.store(b.fmul(b.fdiv(g, divisor), u), pointer(b, b.add(out, at), VEC), align=4)

    return signature, generate


@intrinsic
def exp_sum(context, values, count, shift):
    """Values = exp(values - shift) in place; returns the sum. count is a multiple of LANES."""
    signature = types.float32(types.int64, types.int64, types.float32)

    def generate(context, b, signature, arguments):
        values, count, shift = arguments
        shift = splat(b, shift)
        total = cgutils.alloca_once_value(b, constant(0))
        step = ir.Constant(I64, LANES)
        with cgutils.for_range_slice(b, ir.Constant(I64, 0), count, step, inc=True) as (i, _):
            at = b.add(values, b.mul(i, ir.Constant(I64, 4)))
            e = _exp(b, b.fsub(load(b, at, VEC, 4), shift))
            b.store(e, pointer(b, at, VEC), align=4)
            b.store(b.fadd(b.load(total), e), total)
        return reduce(b, [b.load(total)])[0]

    return signature, generate


@intrinsic
def max_of(context, values, count):
    """The largest of count float32, a multiple of LANES."""

    def generate(context, b, signature, arguments):
        values, count = arguments
        top = cgutils.alloca_once_value(b, constant(float("-inf")))
        step = ir.Constant(I64, LANES)
        with cgutils.for_range_slice(b, ir.Constant(I64, 0), count, step, inc=True) as (i, _):
            line = load(b, b.add(values, b.mul(i, ir.Constant(I64, 4))), VEC, 4)
            b.store(call(b, f"llvm.maxnum.v{LANES}f32", line, b.load(top)), top)
        vector, width = b.load(top), LANES
        while width > 1:
            width //= 2
            lanes = [(i + width) % LANES for i in range(LANES)]
            other = b.shuffle_vector(vector, vector, ir.Constant(VECI, lanes))
            vector = call(b, f"llvm.maxnum.v{LANES}f32", vector, other)
        return b.extract_element(vector, ir.Constant(I32, 0))

    return types.float32(types.int64, types.int64), generate


@intrinsic
def score_block(context, like, q, k, size, out):
    """out[t] = sum over d of q[d] * k[d, t], for the LANES tokens t of one key block [size, LANES]."""
    signature = types.void(like, *[types.int64] * 4)

    def generate(context, b, signature, arguments):
        half = is_half(signature.args[0])
        _, q, k, size, out = arguments
        chains = 4
        sums = [cgutils.alloca_once_value(b, constant(0)) for _ in range(chains)]
        step = ir.Constant(I64, chains)
        with cgutils.for_range_slice(b, ir.Constant(I64, 0), size, step, inc=True) as (d, _):
            for c in range(chains):
                index = b.add(d, ir.Constant(I64, c))
                value = splat(b, load(b, b.add(q, b.mul(index, ir.Constant(I64, 4))), F32, 4))
                at = b.add(k, b.mul(index, ir.Constant(I64, LANES * (2 if half else 4))))
                b.store(fma(b, value, widen(b, at, half), b.load(sums[c])), sums[c])
        parts = [b.load(s) for s in sums]
        total = b.fadd(b.fadd(parts[0], parts[1]), b.fadd(parts[2], parts[3]))
        b.store(total, pointer(b, out, VEC), align=4)

    return signature, generate


@intrinsic
def mix_block(context, like, p, v, tokens, size, out):
    """out[d] += sum over t of p[t] * v[t, d], for one value block [LANES, size] of which tokens are in use."""
    signature = types.void(like, *[types.int64] * 5)

    def generate(context, b, signature, arguments):
        half = is_half(signature.args[0])
        _, p, v, tokens, size, out = arguments
        zero, width = ir.Constant(I64, 0), 2 if half else 4

        def columns(start, vectors):
            at = b.add(out, b.mul(start, ir.Constant(I64, 4)))
            offsets = [ir.Constant(I64, 4 * LANES * n) for n in range(vectors)]
            sums = [cgutils.alloca_once_value(b, constant(0)) for _ in range(vectors)]
            for slot, offset in zip(sums, offsets, strict=True):
                b.store(load(b, b.add(at, offset), VEC, 4), slot)
            with cgutils.for_range_slice(b, zero, tokens, ir.Constant(I64, 1), inc=True) as (t, _):
                weight = splat(b, load(b, b.add(p, b.mul(t, ir.Constant(I64, 4))), F32, 4))
                row = b.mul(b.add(b.mul(t, size), start), ir.Constant(I64, width))
                for n, slot in enumerate(sums):
                    where = b.add(b.add(v, row), ir.Constant(I64, width * LANES * n))
                    b.store(fma(b, weight, widen(b, where, half), b.load(slot)), slot)
            for slot, offset in zip(sums, offsets, strict=True):
                b.store(b.load(slot), pointer(b, b.add(at, offset), VEC), align=4)

        wide = b.and_(size, ir.Constant(I64, ~(4 * LANES - 1)))
        with cgutils.for_range_slice(b, zero, wide, ir.Constant(I64, 4 * LANES), inc=True) as (d, _):
            columns(d, 4)
        with cgutils.for_range_slice(b, wide, size, ir.Constant(I64, LANES), inc=True) as (d, _):
            columns(d, 1)

    return signature, generate


@intrinsic
def get_f32(context, address):
    """The float32 at an address."""
    return types.float32(types.int64), lambda context, b, signature, a: load(b, a[0], F32, 4)


@intrinsic
def put_f32(context, address, value):
    """Store a float32."""

    def generate(context, b, signature, a):
        b.store(a[1], pointer(b, a[0], F32), align=4)

    return types.void(types.int64, types.float32), generate


@intrinsic
def put_weight(context, like, address, value):
    """Store a float32 as like's type: bfloat16 rounds to nearest, ties to even."""

    def generate(context, b, signature, a):
        if not is_half(signature.args[0]):
            b.store(a[2], pointer(b, a[1], F32), align=4)
            return
        bits = b.bitcast(a[2], I32)
        odd = b.and_(b.lshr(bits, ir.Constant(I32, 16)), ir.Constant(I32, 1))
        rounded = b.add(b.add(bits, ir.Constant(I32, 0x7FFF)), odd)
        half = b.trunc(b.lshr(rounded, ir.Constant(I32, 16)), ir.IntType(16))
        b.store(half, pointer(b, a[1], ir.IntType(16)), align=2)

    return types.void(like, types.int64, types.float32), generate


@intrinsic
def get_i32(context, address):
    """The int32 at an address, as int64."""
    return types.int64(types.int64), lambda context, b, signature, a: b.sext(load(b, a[0], I32, 4), I64)


@intrinsic
def atomic_add(context, address, value):
    """Add to the int64 at an address; returns what was there before."""

    def generate(context, b, signature, a):
        return b.atomic_rmw("add", pointer(b, a[0], I64), a[1], "seq_cst")

    return types.int64(types.int64, types.int64), generate


@intrinsic
def atomic_get(context, address):
    """The int64 at an address, seen after everything its writer did before."""

    def generate(context, b, signature, a):
        return b.load_atomic(pointer(b, a[0], I64), "seq_cst", 8, typ=I64)

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
