"""Vectors of float32 in LLVM IR: loading, widening, multiplying and summing, as the kernels use them.

``b`` is always the IR builder; addresses are int64.
"""

# ruff: noqa: ANN001, ANN002, ANN201 - numba's intrinsics are typed by numba, not by annotations
# pyright: reportArgumentType=false, reportCallIssue=false

from llvmlite import ir
from numba import types
from numba.core import cgutils

LANES = 16
"""float32 lanes of one vector in memory layouts (KV blocks, padding). Processors with less split it."""

I64 = ir.IntType(64)
I32 = ir.IntType(32)
F32 = ir.FloatType()
VEC = ir.VectorType(F32, LANES)
VECI = ir.VectorType(I32, LANES)


def pointer(b, address, kind):
    """Convert an address to a pointer to a type."""
    return b.inttoptr(address, ir.PointerType(kind))


def load(b, address, kind, align):
    """Load a value from an address."""
    return b.load(pointer(b, address, kind), align=align, typ=kind)


def splat(b, value):
    """A vector with one value in every lane."""
    empty = ir.Constant(VEC, ir.Undefined)
    first = b.insert_element(empty, value, ir.Constant(I32, 0))
    return b.shuffle_vector(first, empty, ir.Constant(VECI, [0] * LANES))


def constant(value):
    """The same, for a compile-time constant."""
    return ir.Constant(VEC, [float(value)] * LANES)


def integers(value):
    """The same, for a compile-time integer."""
    return ir.Constant(VECI, [int(value)] * LANES)


def call(b, name, *arguments):
    """Call one of LLVM's own functions, whose result is of the first argument's type."""
    kind = arguments[0].type
    function = cgutils.get_or_insert_function(
        b.module, ir.FunctionType(kind, [a.type for a in arguments]), name
    )
    return b.call(function, arguments)


def fma(b, x, y, z):
    """X * y + z, rounded once."""
    return call(b, f"llvm.fma.v{LANES}f32", x, y, z)


def widen(b, address, half: bool, lanes: int = LANES):
    """Weights at an address as float32; bfloat16 is the upper half of a float32."""
    kind, whole = ir.VectorType(F32, lanes), ir.VectorType(I32, lanes)
    if not half:
        return load(b, address, kind, 4)
    bits = b.zext(load(b, address, ir.VectorType(ir.IntType(16), lanes), 2), whole)
    return b.bitcast(b.shl(bits, ir.Constant(whole, [16] * lanes)), kind)


def prefetch(b, address):
    """Have the processor fetch what is at an address into its second cache."""
    # The hardware follows one stream of weights, not the several of a tile: without this, tiles are twice as slow.
    offset = ir.PointerType(ir.IntType(8))
    kind = ir.FunctionType(ir.VoidType(), [offset, I32, I32, I32])
    function = cgutils.get_or_insert_function(b.module, kind, "llvm.prefetch.p0")
    read, into_l2, data = (ir.Constant(I32, n) for n in (0, 2, 1))
    b.call(function, [b.inttoptr(address, offset), read, into_l2, data])


def is_half(like: types.Array) -> bool:
    """Whether weights are bfloat16, which arrays of numpy hold as uint16."""
    return like.dtype == types.uint16


def reduce(b, vectors):
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
            lows = b.shuffle_vector(left, right, ir.Constant(VECI, both))
            highs = b.shuffle_vector(left, right, ir.Constant(VECI, [i + half for i in both]))
            merged.append((b.fadd(lows, highs), names + others))
        groups, segment = merged, half
    scalars = {}
    for vector, names in groups:
        for lane, name in enumerate(names[:LANES]):
            if name not in scalars:
                scalars[name] = b.extract_element(vector, ir.Constant(I32, lane))
    return [scalars[n] for n in range(count)]
