"""The KV bitstream library: a context's keys and values as small, checked, streamable bytes."""

from palimpsest.kv.calibration import LEVELS, Sensitivity, calibrate
from palimpsest.kv.codec import CODECS, LOSSLESS, decode, encode
from palimpsest.kv.container import read_header
from palimpsest.kv.header import ChunkMeta, Header, Identity
from palimpsest.kv.layout import Geometry, KeyValues, from_cache, to_cache
from palimpsest.kv.profile import CalibrationProfile
from palimpsest.kv.reader import ChunkReader
from palimpsest.kv.rotary import Rotary

__all__ = [
    "CODECS",
    "LEVELS",
    "LOSSLESS",
    "CalibrationProfile",
    "ChunkMeta",
    "ChunkReader",
    "Geometry",
    "Header",
    "Identity",
    "KeyValues",
    "Rotary",
    "Sensitivity",
    "calibrate",
    "decode",
    "encode",
    "from_cache",
    "read_header",
    "to_cache",
]
