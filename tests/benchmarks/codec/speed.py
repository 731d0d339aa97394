"""How fast caches are coded: the entropy coder against byte compressors, whole chunks against prefill."""

import importlib
import time
import zlib
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch

from palimpsest.kv import LEVELS, CalibrationProfile, KeyValues, decode, encode
from palimpsest.kv.coding.quantiser import quantise
from palimpsest.kv.coding.rans import decode as rans_decode
from palimpsest.kv.coding.rans import encode as rans_encode
from palimpsest.kv.container import unpack
from palimpsest.kv.header import Kind
from palimpsest.kv.transform import coefficients
from tests.benchmarks.codec.models import MEASURED, PREFIX, ROUNDS, THREADS, Prefill, whole
from tests.benchmarks.figures import Figures, interleaved
from tests.kv_references import ideal_bits

CHUNK = 1024


def entropy(kv: KeyValues, profile: CalibrationProfile, figures: Figures) -> None:
    """The entropy coder against the ideal, and against byte compressors on the same symbols."""
    level = profile.level(MEASURED)
    for tokens, asked in ((256, "<= 0.06"), (1536, "<= 0.02")):
        chunk = kv[:tokens]
        data = encode(chunk, levels=[MEASURED], profile=profile)[MEASURED]
        symbols, classes, escaped = parts(chunk[profile.sinks :], profile)
        ideal = ideal_bits(symbols, classes, level.tables) / 8 + 4 * escaped
        sections = unpack(data)[1]
        apart = sum(len(section.payload) for section in sections if section.kind is Kind.SINKS)
        figures.gate(
            f"container overhead at {tokens} tokens", asked, (len(data) - apart - ideal) / (len(data) - apart)
        )
        figures.figure(f"sink bytes / chunk bytes at {tokens} tokens", apart / len(data))
    coded = sum(len(section.payload) for section in sections) - apart
    figures.gate("coded size / ideal cross-entropy", "<= 1.03", coded / ideal)
    streams = [rans_encode(part, kind, level.tables) for part, kind in zip(symbols, classes, strict=True)]
    plain = [part.tobytes() for part in symbols]
    packed = [zlib.compress(each, 6) for each in plain]
    actions = {
        "own": lambda: [
            rans_decode(s, len(part), kind, level.tables)
            for s, part, kind in zip(streams, symbols, classes, strict=True)
        ],
        "zlib-6": lambda: [zlib.decompress(each) for each in packed],
    }
    sizes = {"own": sum(map(len, streams)), "zlib-6": sum(map(len, packed))}
    if zstandard := optional("zstandard"):
        compressed = [zstandard.ZstdCompressor(3).compress(each) for each in plain]
        reader = zstandard.ZstdDecompressor()
        actions["zstd-3"] = lambda: [reader.decompress(each) for each in compressed]
        sizes["zstd-3"] = sum(map(len, compressed))
    if constriction := optional("constriction"):
        actions["constriction"] = constriction_decoder(
            constriction, symbols[0], classes[0], level.frequencies, figures
        )
    seconds = interleaved({name: partial(timed, action) for name, action in actions.items()}, ROUNDS)
    count = sum(part.size for part in symbols)
    for name, taken in seconds.items():
        number = symbols[0].size if name == "constriction" else count
        figures.figure(f"{name} decode, million symbols a second and core", number / taken / 1e6)
    figures.gate("entropy decode / zlib-6 decode, same symbols", ">= 0.8", seconds["zlib-6"] / seconds["own"])
    if "zstd-3" in seconds:
        figures.gate(
            "entropy decode / zstd-3 decode, same symbols", ">= 0.15", seconds["zstd-3"] / seconds["own"]
        )
        figures.gate("size / zstd-3 size, same symbols", "<= 0.75", sizes["own"] / sizes["zstd-3"])


def parts(kv: KeyValues, profile: CalibrationProfile) -> tuple[list[np.ndarray], list[np.ndarray], int]:
    """Symbols and classes of every section at the measured level, and the number of escapes."""
    level, symbols, classes, escaped = profile.level(MEASURED), [], [], 0
    for group in range(len(profile.groups)):
        for component in (0, 1):
            kept = int(level.kept[component, group])
            part, escapes = quantise(coefficients(kv, profile, component, group), level.step, kept)
            symbols.append(part)
            classes.append(np.ascontiguousarray(level.classes[component, group, :kept]))
            escaped += len(escapes)
    return symbols, classes, escaped


def timed(action: Callable[[], object]) -> float:
    """Seconds one run takes."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def optional(name: str):
    """A package to compare with, or None."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def constriction_decoder(
    constriction, symbols: np.ndarray, classes: np.ndarray, frequencies: np.ndarray, figures: Figures
):
    """Constriction's range coder, one model a column, columns one after another: its fastest way for many tables."""
    models = [
        constriction.stream.model.Categorical(row.astype(np.float32) / row.sum(), perfect=False)
        for row in frequencies
    ]
    encoder = constriction.stream.queue.RangeEncoder()
    for column, kind in enumerate(classes):
        encoder.encode(np.ascontiguousarray(symbols[:, column]).astype(np.int32), models[kind])
    words = encoder.get_compressed()
    figures.figure("constriction bits a symbol (first section)", 32 * len(words) / symbols.size)

    def read() -> bool:
        decoder = constriction.stream.queue.RangeDecoder(words)
        for kind in classes:
            decoder.decode(models[kind], len(symbols))
        return True

    return read


def speed(
    text: Prefill, kv: KeyValues, ids: Sequence[int], profile: CalibrationProfile, figures: Figures
) -> dict[str, float]:
    """Whole chunks against the fastest prefill, on two cores; returns seconds for the prefix."""
    chunks, names = kv.chunks(CHUNK), list(LEVELS)
    coded = [encode(chunk, levels=names, profile=profile) for chunk in chunks]

    def encoding(levels: Sequence[str]) -> None:
        torch.set_num_threads(THREADS)
        for chunk in chunks:
            encode(chunk, levels=levels, profile=profile, threads=THREADS)

    def decoding(level: str) -> None:
        torch.set_num_threads(THREADS)
        for each in coded:
            decode(each[level], profile=profile, threads=THREADS)

    actions: dict[str, Callable[[], None]] = {
        "prefill": partial(whole, text, ids[:PREFIX]),
        "encode 1": partial(encoding, [MEASURED]),
        "encode 5": partial(encoding, names),
    }
    actions |= {name: partial(decoding, name) for name in names}
    seconds = interleaved(actions, ROUNDS)
    for name, value in seconds.items():
        figures.figure(f"{name}, tokens a second", PREFIX / value)
    ratio = seconds["prefill"] / seconds[MEASURED]
    figures.gate("full decode / prefill, tokens a second, two cores", ">= 6", ratio)
    ratio = seconds["prefill"] / seconds["encode 1"]
    figures.gate("encode one level / prefill, tokens a second", ">= 2", ratio)
    figures.gate("time of five levels / one level", "<= 2.5", seconds["encode 5"] / seconds["encode 1"])
    return seconds
