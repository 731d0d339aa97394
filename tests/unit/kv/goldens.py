"""The golden chunks: one cache coded by every coder at every level, kept in ``golden/<container version>``.

``python -m tests.unit.kv.goldens`` writes the folder of the present version. Do that when the version changes, and only
then: chunks that users have stored are read by their version number. What is kept of earlier minor versions stays, and
has to decode for as long as readers take them.

Cache and profile are made of few-bit fractions, so that sums of them are exact, and every machine makes the same ones.
"""

import hashlib
import json
import struct
import zlib
from pathlib import Path

import numpy as np
import torch

from palimpsest.kv import CODECS, LEVELS, CalibrationProfile, Geometry, Identity, KeyValues, Rotary, encode
from palimpsest.kv.classic import SCALES
from palimpsest.kv.coding.quantiser import plain_centres
from palimpsest.kv.container import MAJOR, MINOR, unpack
from palimpsest.kv.generic import geometric_tables
from palimpsest.kv.header import Kind
from palimpsest.kv.level_tables import ClassicTables, LevelTables
from palimpsest.kv.raw import raw_frames

FOLDER = Path(__file__).with_name("golden")
VERSION = f"{MAJOR}.{MINOR}"
GEOMETRY = Geometry(layers=3, kv_heads=2, key_dim=4, value_dim=4)
GROUP, SINKS, TOKENS = 2, 4, 36
WIDE = GROUP * GEOMETRY.key_width
IDENTITY = Identity(model="sha256:model", tokenizer="sha256:tokenizer", prefix="sha256:prefix")
DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}


def golden_cache(dtype: torch.dtype = torch.float32) -> KeyValues:
    """Eighths between -1.75 and 1.75, and one element beyond what a byte of cells holds."""
    numbers = torch.arange(2 * 3 * 2 * TOKENS * 4).view(2, 3, 2, TOKENS, 4)
    parts = ((37 * numbers + numbers // 29 * 11) % 29 - 14) / 8
    parts[0, 1, 0, 20, 2] = parts[1, 2, 1, 21, 3] = 100.0
    return KeyValues(parts[0].to(dtype), parts[1].to(dtype))


def golden_profile() -> CalibrationProfile:
    """A profile without calibration: sums and differences of neighbours, tables made by integer arithmetic."""
    pair = torch.tensor([[0.5, 0.5], [0.5, -0.5]])
    keys, values = (
        [torch.block_diag(*[pair] * (n * GEOMETRY.key_width // 2)).bfloat16() for n in (2, 1)] for _ in (0, 1)
    )
    means = (torch.arange(24) % 5 / 8, torch.arange(24) % 7 / 8)
    classes = (np.arange(2 * 2 * WIDE) * 5 % 64).astype(np.uint8).reshape(2, 2, WIDE)
    kept = np.array([[WIDE, WIDE // 2], [WIDE - 1, WIDE // 2]], dtype=np.int64)
    centres = plain_centres(64)
    centres[:, 129], centres[:, 127] = 0.75, -0.75
    frequencies = geometric_tables().frequencies.astype(np.uint16)
    levels = {
        name: LevelTables(2.0**at / 16, *(part.copy() for part in (kept, classes, frequencies, centres)))
        for at, name in enumerate(LEVELS)
    }
    shape = (2, GEOMETRY.layers, GEOMETRY.key_width)
    paper_classes = (np.arange(2 * np.prod(shape)) * 3 % 64).astype(np.uint8).reshape(2, *shape)
    paper = ClassicTables(
        np.full(shape, 0.125, dtype=np.float32),
        np.full(shape, 0.03125, dtype=np.float32),
        np.full(shape, 0.5, dtype=np.float32),
        {name: (scale, paper_classes.copy(), frequencies.copy()) for name, scale in SCALES.items()},
    )
    return CalibrationProfile(
        GEOMETRY, Rotary(), "golden", GROUP, SINKS, means, (keys, values), levels, paper
    )


def golden_chunks() -> dict[str, bytes]:
    """Everything that is kept, by name, as today's encoder writes it."""
    profile, found = golden_profile(), {}
    for codec in CODECS:
        coded = encode(golden_cache(), levels=list(LEVELS), codec=codec, profile=profile, identity=IDENTITY)
        found |= {f"{codec} {level}": data for level, data in coded.items()}
    for name, dtype in DTYPES.items():
        found[f"lossless {name}"] = encode(golden_cache(dtype), levels=["lossless"], identity=IDENTITY)[
            "lossless"
        ]
    return found


def digest(kv: KeyValues) -> str:
    """Digest of a decoded chunk."""
    running = hashlib.sha256(f"{kv.start} {list(kv.keys.shape)} {kv.dtype_name}".encode())
    for frame in raw_frames(kv):
        running.update(frame)
    return running.hexdigest()


def contents(data: bytes) -> list[object]:
    """What a chunk is made of, side information decompressed: another zlib packs the same into other bytes."""
    meta, sections = unpack(data)
    found: list[object] = [(data[8], data[9]), meta.model_dump_json()]
    for section in sections:
        payload = memoryview(section.payload)
        if section.kind is Kind.SINKS or meta.codec in ("transform", "classic"):
            parts = [bytes(payload)]
        elif meta.codec == "generic":
            (size,), at = struct.unpack_from("<I", payload), 4 + 4 * section.layers
            parts = _opened(payload[4:at], payload[at:], size)
        else:
            *head, size, escapes = struct.unpack_from("<BBHII", payload)
            parts = [repr((head, escapes)).encode(), *_opened(memoryview(b""), payload[12:], size)]
        error, worst = (float(f"{figure:.4g}") for figure in (section.error, section.worst))
        found.append(
            (section.kind, section.first_layer, section.layers, section.symbols, error, worst, parts)
        )
    return found


def _opened(before: memoryview, rest: memoryview, size: int) -> list[bytes]:
    """The parts of a section whose side information is the first ``size`` bytes of ``rest``."""
    side = zlib.decompress(rest[:size]) if size else b""
    return [bytes(before), side, bytes(rest[size:])]


def main() -> None:
    """Write the golden chunks of the present version, and the digests of what they decode to."""
    from palimpsest.kv import decode

    folder = FOLDER / VERSION
    folder.mkdir(parents=True, exist_ok=True)
    digests, profile = {}, golden_profile()
    for name, data in golden_chunks().items():
        (folder / f"{name.replace(' ', '-')}.plkv").write_bytes(data)
        digests[name] = digest(decode(data, profile=profile))
    (folder / "digests.json").write_text(json.dumps(digests, indent=1) + "\n")


if __name__ == "__main__":
    main()
