"""The lossless level: every bit comes back, infinities and all, for any model and with no profile.

A number is sign and exponent, which are predictable within a channel and entropy-coded with tables that travel in the
section, and a mantissa, which is not and is packed as it is (without trailing zeros that all share: float32 caches
that came out of a bfloat16 model cost no more than bfloat16). A section that coding would make longer, such as one of
random bits, holds the raw elements: the level never takes more than the cache, plus a few bytes a section.
"""

import struct
import zlib
from typing import NamedTuple

import numpy as np
import torch

from palimpsest.kv.coding.quantiser import choose_classes, count_symbols, symbol_checksum
from palimpsest.kv.coding.rans import decode, encode, jit
from palimpsest.kv.coding.tables import ALPHABET, TOTAL, Tables, frequencies_from_counts
from palimpsest.kv.header import ChunkMeta, Kind, Section, checksum_seed, damaged
from palimpsest.kv.layout import KeyValues

GROUP = 5
"""Layers of a section."""
TABLES = 16
FAR = 127
"""Exponents this far below a section's largest are escaped."""
_HEAD = struct.Struct("<BBHII")
HEAD_SIZE = _HEAD.size
"""Bytes that a section may be longer than its raw elements."""


class _Format(NamedTuple):
    integer: torch.dtype
    exponent: int
    mantissa: int


_FORMATS = {
    "bfloat16": _Format(torch.int16, 8, 7),
    "float16": _Format(torch.int16, 5, 10),
    "float32": _Format(torch.int32, 8, 23),
}


def encode_group(kv: KeyValues, component: int, first: int, layers: int) -> Section:
    """Code keys (0) or values (1) of a group of layers so that every bit comes back."""
    form = _FORMATS[kv.dtype_name]
    part = kv.part(component)[first : first + layers].contiguous()
    rows = part.view(form.integer).permute(2, 0, 1, 3).reshape(kv.tokens, -1).contiguous().numpy()
    bits = rows.view(np.uint32 if rows.itemsize == 4 else np.uint16).astype(np.uint32)
    exponents = bits >> form.mantissa & ((1 << form.exponent) - 1)
    top = int(exponents.max())
    below = top - exponents
    escapes = exponents[below >= FAR].astype(np.uint8)
    symbols = (np.minimum(below, FAR) | bits >> (form.mantissa + form.exponent) << 7).astype(np.uint8)
    mantissas = bits & ((1 << form.mantissa) - 1)
    union = int(np.bitwise_or.reduce(mantissas, axis=None))
    shift = min(form.mantissa, (union & -union).bit_length() - 1) if union else form.mantissa
    counts = np.zeros((symbols.shape[1], ALPHABET), dtype=np.uint32)
    count_symbols(symbols, counts)
    classes, totals = choose_classes(counts, TABLES, mirrored=False)
    frequencies = frequencies_from_counts(totals)
    tables = Tables(frequencies)
    side = zlib.compress(classes.tobytes() + frequencies.astype("<u2").T.tobytes(), 9)
    packed = np.zeros((bits.size * (form.mantissa - shift) + 7) // 8, dtype=np.uint8)
    _pack(mantissas.ravel() >> shift, form.mantissa - shift, packed)
    payload = b"".join(
        [
            _HEAD.pack(top, shift, len(frequencies), len(side), len(escapes)),
            side,
            escapes.tobytes(),
            packed.tobytes(),
            encode(symbols, classes, tables),
        ]
    )
    kind = (Kind.KEYS, Kind.VALUES)[component]
    before = _before(checksum_seed(kind, first, layers), top, shift, packed)
    crc = symbol_checksum(symbols, escapes.astype(np.int32), before)
    if len(payload) > _HEAD.size + rows.nbytes:
        plain = rows.astype(rows.dtype.newbyteorder("<")).tobytes()
        payload, crc = (
            _HEAD.pack(0, 0, 0, 0, 0) + plain,
            zlib.crc32(plain, checksum_seed(kind, first, layers)),
        )
    return Section(kind, first, layers, payload, crc)


def decode_group(section: Section, meta: ChunkMeta, out: KeyValues) -> None:
    """Decode one section of keys or values into its layers of ``out``.

    Raises
    ------
    DataLoss
        The section contradicts itself.
    """
    form = _FORMATS[meta.dtype]
    component = 0 if section.kind is Kind.KEYS else 1
    target = out.part(component)[section.first_layer : section.first_layer + section.layers]
    width = section.layers * out.geometry.width(component)
    view = memoryview(section.payload)
    if len(view) < _HEAD.size:
        raise damaged("A section is cut short; fetch the chunk again.")
    top, shift, tables, side, count = _HEAD.unpack_from(view)
    size = meta.tokens * width
    before = checksum_seed(section.kind, section.first_layer, section.layers)
    if not tables:
        plain = view[_HEAD.size :]
        if len(plain) != size * form.integer.itemsize or zlib.crc32(plain, before) != section.symbols:
            raise damaged("A section of raw elements has the wrong size or checksum; fetch the chunk again.")
        _write(np.frombuffer(plain, dtype=f"<i{form.integer.itemsize}"), target)
        return
    if shift > form.mantissa or tables > ALPHABET or count > size or top >> form.exponent:
        raise damaged("A lossless section's header makes no sense; fetch the chunk again.")
    packed = (size * (form.mantissa - shift) + 7) // 8
    if _HEAD.size + side + count + packed > len(view):
        raise damaged("A section is cut short; fetch the chunk again.")
    at = _HEAD.size + side
    classes, frequencies = _side(view[_HEAD.size : at], width, tables)
    escapes = np.frombuffer(view, dtype=np.uint8, count=count, offset=at)
    at += count
    symbols = decode(view[at + packed :], meta.tokens, classes, Tables(frequencies))
    kept = np.frombuffer(view, dtype=np.uint8, count=packed, offset=at)
    if (
        symbol_checksum(symbols, escapes.astype(np.int32), _before(before, top, shift, kept))
        != section.symbols
    ):
        raise damaged("A section decodes to other symbols than it was made from; fetch the chunk again.")
    mantissas = unpack_mantissas(kept, form.mantissa - shift, size)
    below = (symbols & 0x7F).astype(np.int64)
    far = below == FAR
    if int(far.sum()) != count or (below > top)[~far].any() or (escapes > max(0, top - FAR)).any():
        raise damaged("A section's escapes do not match its symbols; fetch the chunk again.")
    exponents = top - below
    exponents[far] = escapes
    signs = (symbols >> 7).astype(np.uint32)
    bits = signs << (form.exponent + form.mantissa) | exponents.astype(np.uint32) << form.mantissa
    bits |= mantissas.reshape(bits.shape) << shift
    _write(bits.astype(f"<u{form.integer.itemsize}").view(f"<i{form.integer.itemsize}"), target)


def _before(checksum_seed: int, top: int, shift: int, packed: np.ndarray) -> int:
    """Begin a section's checksum with everything that its symbols do not contain."""
    return zlib.crc32(np.ascontiguousarray(packed).data, zlib.crc32(bytes([top, shift]), checksum_seed))


def _write(elements: np.ndarray, target: torch.Tensor) -> None:
    """Write elements, given by their bits token by token, into a group of layers."""
    layers, heads, tokens, dim = target.shape
    flat = torch.from_numpy(elements.astype(elements.dtype.newbyteorder("="))).view(target.dtype)
    target.copy_(flat.view(tokens, layers, heads, dim).permute(1, 2, 0, 3))


def _side(data: memoryview, width: int, tables: int) -> tuple[np.ndarray, np.ndarray]:
    """Read the classes of the columns and the tables; never more than they can be."""
    expected = width + tables * ALPHABET * 2
    reader = zlib.decompressobj()
    try:
        raw = reader.decompress(bytes(data), expected + 1)
    except zlib.error:
        raise damaged("A lossless section's tables are damaged; fetch the chunk again.") from None
    if len(raw) != expected:
        raise damaged("A lossless section's tables have the wrong size; fetch the chunk again.")
    classes = np.frombuffer(raw, dtype=np.uint8, count=width)
    frequencies = np.frombuffer(raw, dtype="<u2", offset=width).reshape(ALPHABET, tables).T
    # A frequency of 0 is what no encoder writes: it would let a few bytes stand for any number of symbols.
    wrong = (frequencies.sum(1, dtype=np.int64) != TOTAL).any() or not frequencies.all()
    if wrong or (classes >= tables).any():
        raise damaged("A lossless section's tables do not fit; fetch the chunk again.")
    return classes, np.ascontiguousarray(frequencies)


def unpack_mantissas(packed: np.ndarray, width: int, count: int) -> np.ndarray:
    """Read ``count`` numbers of ``width`` bits from uint8: ``[count]`` uint32."""
    found = np.empty(count, dtype=np.uint32)
    packed = packed.view()
    packed.flags.writeable = False  # as parts of what arrives are: numba compiles anew for what is not
    _unpack(packed, width, found)
    return found


@jit
def _pack(values: np.ndarray, width: int, out: np.ndarray) -> None:
    """Write ``width`` low bits of each value, least significant first."""
    held = np.uint64(0)
    bits = 0
    at = 0
    for index in range(values.shape[0]):
        held |= np.uint64(values[index]) << np.uint64(bits)
        bits += width
        while bits >= 8:
            out[at] = np.uint8(held & np.uint64(0xFF))
            at += 1
            held >>= np.uint64(8)
            bits -= 8
    if bits > 0:
        out[at] = np.uint8(held & np.uint64(0xFF))


@jit
def _unpack(packed: np.ndarray, width: int, out: np.ndarray) -> None:
    """Read what ``_pack`` wrote."""
    held = np.uint64(0)
    bits = 0
    at = 0
    mask = (np.uint64(1) << np.uint64(width)) - np.uint64(1)
    for index in range(out.shape[0]):
        while bits < width:
            held |= np.uint64(packed[at]) << np.uint64(bits)
            at += 1
            bits += 8
        out[index] = np.uint32(held & mask)
        held >>= np.uint64(width)
        bits -= width
