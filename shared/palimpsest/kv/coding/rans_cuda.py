"""The entropy decoder for CUDA, in Triton: the same streams, one program a section, one lane an element of a vector.

Optional: where Triton or a CUDA device is missing, ``palimpsest.kv.coding.rans.decode`` does the work. A block of 32
columns is decoded at once. Lanes that need a word take it at the running count of such lanes, which is the
order the encoder wrote them in.
"""

import importlib
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import torch

from palimpsest.kv.coding.rans import LANES, STATE_FLOOR
from palimpsest.kv.coding.tables import PROBABILITY_BITS, Tables
from palimpsest.kv.header import damaged

triton: Any = None
tl: Any = None
with suppress(ImportError):
    triton = importlib.import_module("triton")
    tl = importlib.import_module("triton.language")


def available() -> bool:
    """Whether sections can be decoded on a GPU here."""
    return triton is not None and torch.cuda.is_available()


def decode(
    streams: Sequence[bytes | memoryview],
    tokens: int,
    classes: Sequence[np.ndarray],
    tables: Tables,
    device: str,
) -> list[torch.Tensor]:
    """Decode several sections of one chunk at once.

    Parameters
    ----------
    streams
        What ``rans.encode`` returned for each section.
    tokens
        Rows of each.
    classes
        ``[width]`` uint8 of each, the table of each column.
    tables
        The frequencies they were coded with.
    device
        A CUDA device.

    Returns
    -------
    list of torch.Tensor
        ``[tokens, width]`` uint8 on the device.

    Raises
    ------
    DataLoss
        A stream does not end where it should.
    """
    if any(len(stream) < 4 * LANES or len(stream) % 2 for stream in streams):
        raise damaged("An entropy-coded section is cut short; fetch the chunk again.")
    states = np.stack([np.frombuffer(stream, dtype="<i4", count=LANES) for stream in streams])
    words = [np.frombuffer(stream, dtype="<i2", offset=4 * LANES) for stream in streams]
    starts, ends = _offsets([len(part) for part in words])
    columns, _ = _offsets([len(part) for part in classes])
    offsets, _ = _offsets([tokens * len(part) for part in classes])

    def there(array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(device)

    out = torch.empty(sum(tokens * len(part) for part in classes), dtype=torch.uint8, device=device)
    final = torch.empty(len(streams), LANES + 1, dtype=torch.int32, device=device)
    _kernel()[(len(streams),)](
        there(np.concatenate(words)),
        there(starts),
        there(ends),
        there(states),
        there(np.concatenate(classes)),
        there(columns),
        there(np.array([len(part) for part in classes], dtype=np.int64)),
        there(tables.slots.view(np.int32)),
        out,
        there(offsets),
        final,
        tokens,
        LANES=LANES,
        BITS=PROBABILITY_BITS,
        FLOOR=STATE_FLOOR,
        num_warps=1,
    )
    last = final.cpu().numpy()
    if (last[:, :LANES] != STATE_FLOOR).any() or (last[:, LANES] != ends - starts).any():
        raise damaged("An entropy-coded section does not end where it should; fetch it again.")
    shapes = [(tokens, len(part)) for part in classes]
    return [
        part.view(shape) for part, shape in zip(out.split([r * c for r, c in shapes]), shapes, strict=True)
    ]


def _offsets(lengths: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    ends = np.cumsum(np.asarray(lengths, dtype=np.int64))
    return ends - np.asarray(lengths, dtype=np.int64), ends


def _kernel() -> Any:
    """Compile on first use, so that importing this module needs no Triton."""
    if triton is None:
        raise ModuleNotFoundError("Decoding on a GPU needs Triton; install it, or decode on the CPU.")
    for name in ("LANES", "BITS", "FLOOR"):
        _decode_section.__annotations__[name] = tl.constexpr
    return triton.jit(_decode_section)


def _decode_section(  # noqa: ANN202
    words,  # noqa: ANN001
    starts,  # noqa: ANN001
    ends,  # noqa: ANN001
    states,  # noqa: ANN001
    classes,  # noqa: ANN001
    columns,  # noqa: ANN001
    widths,  # noqa: ANN001
    slots,  # noqa: ANN001
    out,  # noqa: ANN001
    offsets,  # noqa: ANN001
    final,  # noqa: ANN001
    tokens,  # noqa: ANN001
    LANES,  # noqa: ANN001
    BITS,  # noqa: ANN001
    FLOOR,  # noqa: ANN001
):
    section = tl.program_id(0)
    lane = tl.arange(0, LANES)
    first = tl.load(starts + section)
    end = tl.load(ends + section)
    width = tl.load(widths + section)
    column = tl.load(columns + section)
    offset = tl.load(offsets + section)
    state = tl.load(states + section * LANES + lane).to(tl.uint32, bitcast=True)
    position = first
    for token in range(tokens):
        for block in range(0, width, LANES):
            live = block + lane < width
            table = tl.load(classes + column + block + lane, mask=live, other=0).to(tl.uint32)
            slot = tl.load(slots + (table << BITS) + (state & ((1 << BITS) - 1)), mask=live, other=0)
            slot = slot.to(tl.uint32, bitcast=True)
            tl.store(out + offset + token * width + block + lane, (slot & 0xFF).to(tl.uint8), mask=live)
            taken = (((slot >> 8) & 0xFFF) + 1) * (state >> BITS) + (slot >> 20)
            low = live & (taken < FLOOR)
            rank = tl.cumsum(low.to(tl.int32), 0) - 1
            word = tl.load(words + position + rank, mask=low & (position + rank < end), other=0)
            refilled = (taken << 16) | (word.to(tl.uint32) & 0xFFFF)
            state = tl.where(live, tl.where(low, refilled, taken), state)
            position += tl.sum(low.to(tl.int32), 0)
    tl.store(final + section * (LANES + 1) + lane, state.to(tl.int32, bitcast=True))
    tl.store(final + section * (LANES + 1) + LANES, position - first)
