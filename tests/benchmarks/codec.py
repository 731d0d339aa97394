"""The cache codec: size against what it does to predictions, speed against prefill, loading in time.

``python -m tests.benchmarks.codec`` takes about fifteen minutes, most of it calibration and prefill.
``PALIMPSEST_BENCH_PROFILE`` names a file to keep the calibration profile in between runs. zstandard and constriction
are compared with where they are installed.
"""

import importlib
import os
import statistics
import time
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import platformdirs
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from palimpsest.kv import (
    LEVELS,
    CalibrationProfile,
    KeyValues,
    Rotary,
    calibrate,
    decode,
    encode,
    from_cache,
    to_cache,
)
from palimpsest.kv.container import Kind, unpack
from palimpsest.kv.controller import Chunk, Controller, Load, Option
from palimpsest.kv.quantiser import ideal_bits, quantise
from palimpsest.kv.rans import decode as rans_decode
from palimpsest.kv.rans import encode as rans_encode
from palimpsest.kv.sensitivity import measure
from palimpsest.kv.simulation import Trace, play, play_fixed, shared_rule
from palimpsest.kv.transform import coefficients
from palimpsest.models import convert_gguf, sample_gguf
from tests.benchmarks.documents import calibration_documents, evaluation_documents
from tests.benchmarks.figures import Figures, interleaved

PREFIX, CONTINUATION, CHUNK = 2048, 256, 1024
MEASURED = "balanced"
ROUNDS = 5


def prefill(model: PreTrainedModel, ids: list[int]) -> KeyValues:
    with torch.no_grad():
        return from_cache(model(torch.tensor([ids]), use_cache=True, logits_to_keep=1).past_key_values)


def profile_for(model: PreTrainedModel, tokenizer, figures: Figures) -> CalibrationProfile:
    """Calibrate on documents of their own, or read what an earlier run kept."""
    kept = os.environ.get("PALIMPSEST_BENCH_PROFILE")
    if kept and Path(kept).exists():
        return CalibrationProfile.from_bytes(Path(kept).read_bytes())
    texts = calibration_documents(tokenizer)
    rotary = Rotary.of(model.config)
    start = time.perf_counter()
    sensitivity = measure(model, texts[::3], rotary=rotary)
    caches = [prefill(model, ids) for ids in texts]
    caches = [KeyValues(kv.keys.bfloat16(), kv.values.bfloat16()) for kv in caches]
    profile = calibrate(caches, rotary=rotary, sensitivity=sensitivity)
    figures.figure("calibration seconds", time.perf_counter() - start)
    figures.figure("calibration tokens", sum(len(ids) for ids in texts))
    if kept:
        Path(kept).write_bytes(profile.to_bytes())
    return profile


def divergence(
    model: PreTrainedModel, kv: KeyValues, ids: list[int], exact: torch.Tensor
) -> tuple[float, float]:
    """Mean KL in nats a token, and how often the likeliest token stays so."""
    cache = to_cache(KeyValues(kv.keys.float(), kv.values.float()), model.config)
    with torch.no_grad():
        found = model(torch.tensor([ids[PREFIX:]]), past_key_values=cache).logits[0].log_softmax(-1)
    kl = (exact.exp() * (exact - found)).sum(-1).mean()
    return float(kl), float((exact.argmax(-1) == found.argmax(-1)).float().mean())


def quality(
    model: PreTrainedModel, tokenizer, profile: CalibrationProfile, figures: Figures
) -> dict[str, tuple]:
    """Code every evaluation document at every level; returns mean bytes, KL and agreement of each."""
    rows: dict[str, list[tuple[float, float, float]]] = {}
    domains: dict[str, list[float]] = {}
    for domain, ids in evaluation_documents(tokenizer, PREFIX + CONTINUATION):
        full = prefill(model, ids[:PREFIX])
        with torch.no_grad():
            exact = model(torch.tensor([ids[PREFIX:]]), past_key_values=to_cache(full, model.config)).logits[
                0
            ]
        exact = exact.log_softmax(-1)
        kv = KeyValues(full.keys.bfloat16(), full.values.bfloat16())
        for codec, levels in (
            ("transform", [*LEVELS, "lossless"]),
            ("classic", ["compact"]),
            ("generic", [MEASURED]),
        ):
            coded = [
                encode(c, levels=levels, codec=codec, profile=profile, rotary=profile.rotary)
                for c in kv.chunks(CHUNK)
            ]
            for level in levels:
                back = KeyValues.join([decode(each[level], profile=profile) for each in coded])
                if level == "lossless":
                    assert back.keys.equal(kv.keys)
                    assert back.values.equal(kv.values)
                kl, agree = divergence(model, back, ids, exact)
                size = sum(len(each[level]) for each in coded)
                rows.setdefault(f"{codec} {level}", []).append((size, kl, agree))
                if (codec, level) == ("transform", MEASURED):
                    domains.setdefault(domain, []).append(kl)
    values = profile.geometry.values_per_token * PREFIX
    scales = 2 * profile.geometry.layers * PREFIX * 2
    means = {
        name: tuple(statistics.fmean(part) for part in zip(*each, strict=True)) for name, each in rows.items()
    }
    for name, (size, kl, agree) in means.items():
        figures.figure(
            name,
            f"{size / (values + scales):.4f} of u8, {size / (2 * values):.4f} of bf16, KL {kl:.4f}, top-1 {agree:.4f}",
        )
    for domain, kls in domains.items():
        figures.figure(f"KL at {MEASURED}, {domain} ({len(kls)})", statistics.fmean(kls))
    lossy = [means[f"transform {level}"] for level in LEVELS]

    def smallest(limit: float, agree: float = 0.0) -> float:
        return min((size for size, kl, top in lossy if kl <= limit and top >= agree), default=float("inf"))

    u8, bf16 = values + scales, 2 * values
    classic = means["classic compact"]
    figures.gate("bytes / u8 at KL <= .015", "<= 0.25", smallest(0.015) / u8)
    figures.gate("bytes / bf16 at KL <= .05", "<= 0.09", smallest(0.05) / bf16)
    figures.gate("near-lossless (KL <= .004, top-1 >= .96) bytes / u8", "<= 0.40", smallest(0.004, 0.96) / u8)
    figures.gate("lossless bytes / bf16, bit-exact", "<= 0.70", means["transform lossless"][0] / bf16)
    figures.gate("classic KL at its gate", "<= 0.035", classic[1])
    figures.gate("classic bytes / u8 at KL <= .035", "<= 0.46", classic[0] / u8)
    figures.gate("transform / classic bytes at no more KL", "<= 0.5", smallest(classic[1]) / classic[0])
    return means


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
    path: Path, kv: KeyValues, ids: list[int], profile: CalibrationProfile, figures: Figures
) -> dict[str, float]:
    """Whole chunks against prefill in the faster type, on two cores; returns seconds for the prefix."""
    torch.set_num_threads(2)
    models = {
        name: AutoModelForCausalLM.from_pretrained(path, dtype=dtype).eval()
        for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16))
    }
    taken = interleaved({name: lambda m=m: prefill(m, ids[:512]) and None for name, m in models.items()}, 2)
    dtype = min(taken, key=taken.__getitem__)
    figures.figure("prefill type", dtype)
    model, chunks, names = models[dtype], kv.chunks(CHUNK), list(LEVELS)
    coded = [encode(chunk, levels=names, profile=profile) for chunk in chunks]

    def run(action) -> None:
        torch.set_num_threads(2)
        action()

    actions = {
        "prefill": lambda: run(lambda: prefill(model, ids[:PREFIX])),
        "encode 1": lambda: run(
            lambda: [encode(c, levels=[MEASURED], profile=profile, threads=2) for c in chunks]
        ),
        "encode 5": lambda: run(
            lambda: [encode(c, levels=names, profile=profile, threads=2) for c in chunks]
        ),
    }
    for name in names:
        actions[name] = lambda n=name: run(lambda: [decode(c[n], profile=profile, threads=2) for c in coded])
    seconds = interleaved(actions, ROUNDS)
    for name, value in seconds.items():
        figures.figure(f"{name}, tokens a second", PREFIX / value)
    figures.gate(
        "full decode / prefill, tokens a second, two cores", ">= 6", seconds["prefill"] / seconds[MEASURED]
    )
    figures.gate(
        "encode one level / prefill, tokens a second", ">= 2", seconds["prefill"] / seconds["encode 1"]
    )
    figures.gate("time of five levels / one level", "<= 2.5", seconds["encode 5"] / seconds["encode 1"])
    return seconds


def loading(means: dict[str, tuple], seconds: dict[str, float], raw: int, figures: Figures) -> None:
    """The controller on simulated networks, with sizes and speeds just measured. B* is raw bytes over prefill time."""
    chunks, text = 8, seconds["prefill"]
    tie = raw / text
    u8 = Option("u8", raw // 2 // chunks, 1e-4, 0.0)
    own = [
        Option(
            name,
            round(means[f"transform {name}"][0] / chunks),
            means[f"transform {name}"][1],
            seconds[name] / chunks,
        )
        for name in LEVELS
    ]
    base = (Chunk(PREFIX // chunks, text / chunks, (u8, *own)),) * chunks
    load = lambda deadline, **more: Load(base, deadline, **more)  # noqa: E731
    level = 1 + list(LEVELS).index(MEASURED)
    budget = 1.02 * own[level - 1].loss

    def delay(share: float, **more) -> float:
        job = load(text, mode="delay", loss_budget=budget, bandwidth=share * tie, **more)
        return play(job, Trace((share * tie,), 1e9)).finish

    figures.gate("load at .7 B*: times faster than text (simulated)", ">= 3.1", text / delay(0.7))
    figures.gate(
        "load at .7 B*: times faster than u8 (simulated)", ">= 2.5", raw / 2 / (0.7 * tie) / delay(0.7)
    )
    fast = Trace((5 * tie,), 1e9)
    best = min(
        [raw / (5 * tie), *(play_fixed(load(text), fast, lambda n, b, at=at: at).finish for at in range(6))]
    )
    budget = 1.0  # of the ways compared, the quickest is the coarsest
    figures.gate("load at 5 B* / best fixed way (simulated)", "<= 1.1", delay(5) / best)
    budget = 1.02 * own[level - 1].loss
    figures.gate("load at .05 B* / text (simulated)", "<= 1.1", delay(0.05) / text)
    moved = play_fixed(load(text), Trace((0.7 * tie,), 1e9), lambda n, b: level)
    transfer = own[level - 1].size * chunks / (0.7 * tie)
    figures.gate("pipelining: delay / transfer, 8 chunks (simulated)", "<= 1.25", moved.finish / transfer)
    for share in (0.25, 0.5, 0.75):
        job = load(share * text)
        traces = [Trace.drawn(seed, 0.02 * tie, 2 * tie, text / 10) for seed in range(200)]
        runs = {"adaptive": [play(job, trace) for trace in traces]}
        for at in range(6):
            name = base[0].options[at].level
            runs[name] = [play_fixed(job, trace, lambda n, b, at=at: at) for trace in traces]
        runs["published rule"] = [play_fixed(job, trace, shared_rule(job, range(6))) for trace in traces]
        late = {
            name: 100 * statistics.fmean(o.finish > job.deadline for o in each) for name, each in runs.items()
        }
        loss = {name: statistics.fmean(o.loss for o in each) for name, each in runs.items()}
        fixed = [name for name in late if name not in ("adaptive", "published rule")]
        least = min(late[name] for name in fixed)
        surest = min((name for name in fixed if late[name] == least), key=loss.__getitem__)
        figures.figure(
            f"deadline {share} of text, 200 traces: % late, KL",
            "; ".join(f"{name} {late[name]:.1f}, {loss[name]:.4f}" for name in runs),
        )
        figures.gate(
            f"deadline {share}: % late, adaptive - best fixed", "<= 2", late["adaptive"] - late[surest]
        )
        figures.gate(f"deadline {share}: KL, adaptive / best fixed", "<= 1", loss["adaptive"] / loss[surest])
    controller = Controller(Load(base * 8, text))
    start = time.perf_counter()
    for _ in range(20):
        controller.decide(0.0)
    figures.gate("milliseconds a decision, 64 chunks", "<= 2", (time.perf_counter() - start) / 20 * 1e3)


def main() -> None:
    """Measure everything."""
    torch.set_num_threads(2)
    figures = Figures("codec")
    path = convert_gguf(sample_gguf(), Path(platformdirs.user_cache_dir("palimpsest-tests", appauthor=False)))
    tokenizer = AutoTokenizer.from_pretrained(path)
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval().requires_grad_(False)
    profile = profile_for(model, tokenizer, figures)
    weights = 2 * sum(part.numel() for part in model.parameters())
    figures.gate("profile bytes / bf16 weights", "<= 0.1", len(profile.to_bytes()) / weights)
    means = quality(model, tokenizer, profile, figures)
    _, ids = evaluation_documents(tokenizer, PREFIX + CONTINUATION)[0]
    full = prefill(model, ids[:PREFIX])
    kv = KeyValues(full.keys.bfloat16(), full.values.bfloat16())
    entropy(kv, profile, figures)
    seconds = speed(path, kv, ids, profile, figures)
    loading(means, seconds, 2 * profile.geometry.values_per_token * PREFIX, figures)
    figures.write()


if __name__ == "__main__":
    main()
