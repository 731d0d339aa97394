"""Whether chunks lose more than was told of them, over forty texts few of which are like the calibration's.

``python -m tests.benchmarks.codec.promises`` takes about half an hour on two cores. ``PALIMPSEST_BENCH_PROFILE`` is as
for ``codec``; ``PALIMPSEST_BENCH_TEXTS`` takes only so many of the texts. Chunks are kept as CreateContext keeps them,
judged by the model in its engine, and as PutContext does, by estimates; with the profile and without. The loss is then
measured with transformers on what the judge has not read: another question with the model's own answer, and more of the
text that follows. Models with outlier channels are the sample model with a channel of keys and of values of every fifth
layer a hundred and a thousand times as loud, and what reads them as much quieter: it says the same as before.
"""

import copy
import os
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from transformers import PreTrainedModel

from palimpsest.engine import Engine
from palimpsest.kv import LEVELS, KeyValues, Rotary, decode
from palimpsest.kv.promises import Coded, Estimates, Losses, keep
from palimpsest.lm import load
from services.codec.coding import PLAIN_LOSSES
from services.codec.judging import QUESTION, Judge
from tests.benchmarks.codec.models import THREADS, Sample, cache_of, halved, prefill, sample
from tests.benchmarks.codec.quality import divergence, predictions
from tests.benchmarks.codec.texts import odd_texts
from tests.benchmarks.documents import evaluation_documents
from tests.benchmarks.figures import Figures

CHUNK, CHUNKS, AFTER, ANSWER = 512, 2, 64, 24
ASKED = "\n\nPlease summarize what you have just read in one sentence.\n\n"
KEPT = ("near-lossless", "balanced", "smallest")
LOUD_TEXTS = 8
GENERIC = {("generic", level): loss for level, loss in PLAIN_LOSSES.items()}


@dataclass
class Way:
    """One way to keep chunks, and what came of it: (text, level, told, measured, coder, share of the bf16 cache)."""

    name: str
    codec: str
    rows: list[tuple[str, str, float, float, str, float]] = field(default_factory=list)


def main() -> None:
    """Measure everything."""
    torch.set_num_threads(THREADS)
    figures = Figures("codec-promises")
    it = sample(figures)
    texts = odd_texts(it.tokenizer, CHUNK * CHUNKS + AFTER)
    texts = texts[:: max(1, len(texts) // int(os.environ.get("PALIMPSEST_BENCH_TEXTS", "40")))]
    documents = evaluation_documents(it.tokenizer, CHUNK * CHUNKS + AFTER)
    ordinary = [ids for _, ids in documents][:: max(1, 40 // len(texts))]
    means = _means(it, ordinary)
    for codec, level in means:
        if codec == "transform":
            figures.figure(f"mean of {level} on ordinary text", means[codec, level])
    report(figures, f"{len(texts)} texts", promised(it, texts, means), 0.05)
    kept = promised(it, [(f"document {n}", ids) for n, ids in enumerate(ordinary)], means)
    report(figures, "ordinary text", kept, 0.05)
    for times in (100.0, 1000.0):
        with TemporaryDirectory() as folder:
            model = loud(it.model, times)
            model.save_pretrained(folder)
            it.tokenizer.save_pretrained(folder)
            changed = Sample(Path(folder), it.tokenizer, model, it.profile)
            some = texts[:: max(1, len(texts) // LOUD_TEXTS)]
            found = promised(changed, some, means, generic=True)
        report(figures, f"outlier channels of {times:.0f}", found, 0.05)
    figures.write()


def promised(
    it: Sample,
    texts: Sequence[tuple[str, list[int]]],
    means: dict[tuple[str, str], float],
    *,
    generic: bool = False,
) -> list[Way]:
    """Keep every chunk of some texts in every way, and measure what each loses."""
    ways = [Way("judged, generic", "generic"), Way("estimated, generic", "generic")]
    if not generic:
        ways = [Way("judged, transform", "transform"), Way("estimated, transform", "transform"), *ways]
    engine = Engine(load(it.path, "cpu", "float32", threads=THREADS, cache_bytes=256 << 20))
    question = it.tokenizer(QUESTION, add_special_tokens=False).input_ids
    try:
        for name, ids in texts:
            full = halved(prefill(it.model, ids[: CHUNK * CHUNKS]))  # what is stored is the truth here
            judges = {
                way.name: Judge(engine, ids, question, CHUNK, lambda: None)
                for way in ways
                if way.name.startswith("judged")
            }
            for kv in full.chunks(CHUNK):
                continuations = _continuations(it, full, kv, ids)
                for way in ways:
                    judge = judges.get(way.name)
                    losses = judge or Estimates(means | GENERIC, it.profile)
                    _keep(it, way, losses, name, full, kv, continuations)
                    if judge is not None:
                        judge.passed(full[kv.start : kv.start + CHUNK])
            print(
                f"{name}:",
                ", ".join(f"{way.name} {len(_over(way))} of {len(way.rows)}" for way in ways),
                flush=True,
            )
            for judge in judges.values():
                judge.close()
    finally:
        engine.close()
    return ways


def _keep(
    it: Sample,
    way: Way,
    losses: Losses,
    name: str,
    full: KeyValues,
    kv: KeyValues,
    continuations: list[tuple[list[int], torch.Tensor]],
) -> None:
    profile = it.profile if way.codec == "transform" else None
    rotary = Rotary.of(it.model.config)
    kept = keep(kv, losses, levels=KEPT, codec=way.codec, profile=profile, rotary=rotary, threads=THREADS)
    lost: dict[bytes, float] = {}
    for level, each in kept.items():
        if each.data not in lost:
            back = decode(each.data, profile=profile)
            parts = (full.keys, back.keys), (full.values, back.values)
            keys, values = (torch.cat([w[:, :, : kv.start], part], 2) for w, part in parts)
            other = KeyValues(keys, values)
            lost[each.data] = statistics.fmean(
                divergence(exact, predictions(it, other, ids))[0] for ids, exact in continuations
            )
        share = len(each.data) / (2 * kv.tokens * kv.geometry.values_per_token)
        way.rows.append((name, level, each.loss, lost[each.data], each.stored_level, share))


@torch.no_grad()
def _continuations(
    it: Sample, full: KeyValues, kv: KeyValues, ids: list[int]
) -> list[tuple[list[int], torch.Tensor]]:
    """The text that follows a chunk, and another question with the model's own answer: ids and exact predictions."""
    stop = kv.start + kv.tokens
    answer = new = it.tokenizer(ASKED, add_special_tokens=False).input_ids
    cache = cache_of(full[:stop], it.model)
    for _ in range(ANSWER):
        found = it.model(torch.tensor([new]), past_key_values=cache, use_cache=True)
        new = [int(found.logits[0, -1].argmax())]
        answer = answer + new
    return [(text, predictions(it, full[:stop], text)) for text in (ids[stop : stop + AFTER], answer)]


def _means(it: Sample, documents: Sequence[list[int]]) -> dict[tuple[str, str], float]:
    """What calibration tells of each level: the mean on ordinary text, of chunks kept by the level's own coder."""
    way = Way("means", "transform")
    for ids in documents:
        full = halved(prefill(it.model, ids[: CHUNK * CHUNKS]))  # what is stored is the truth here
        for kv in full.chunks(CHUNK):
            stop = kv.start + kv.tokens
            following = ids[stop : stop + AFTER]
            exact = predictions(it, full[:stop], following)
            _keep(it, way, _never, "", full, kv, [(following, exact)])
    found = {}
    for level in LEVELS:
        measured = [row[3] for row in way.rows if row[1] == level]
        if measured:
            found["transform", level] = max(1e-4, statistics.fmean(measured))
    for before, level, after in (("near-lossless", "high", "balanced"), ("balanced", "compact", "smallest")):
        found["transform", level] = (found["transform", before] * found["transform", after]) ** 0.5
    return found


def _never(_: KeyValues, forms: Sequence[Coded]) -> list[float]:
    """Find nothing wrong with any form."""
    return [0.0] * len(forms)


def loud(model: PreTrainedModel, times: float) -> PreTrainedModel:
    """The same model, with one channel of keys (and its rotary partner) and of values loud in every fifth layer."""
    changed = copy.deepcopy(model)
    config = changed.config
    dim = config.hidden_size // config.num_attention_heads
    groups = config.num_attention_heads // config.num_key_value_heads
    with torch.no_grad():
        for layer in changed.model.layers[::5]:
            attention = layer.self_attn
            for row in (7, 7 + dim // 2):
                attention.k_proj.weight[row] *= times
            attention.v_proj.weight[9] *= times
            for head in range(groups):
                for row in (7, 7 + dim // 2):
                    attention.q_proj.weight[head * dim + row] /= times
                attention.o_proj.weight[:, head * dim + 9] /= times
    return changed


def _over(way: Way) -> list[tuple[str, str, float, float, str, float]]:
    """The chunks so far that lost more than was told."""
    return [row for row in way.rows if row[3] > row[2] + 1e-5]


def report(figures: Figures, texts: str, ways: Sequence[Way], share: float) -> None:
    """Print what each way kept, and gate how often more was lost than told."""
    for way in ways:
        over = _over(way)
        figures.gate(
            f"{texts}, {way.name}: chunks that lose more than told ({len(over)} of {len(way.rows)})",
            f"<= {share}",
            len(over) / len(way.rows),
        )
        for level in KEPT:
            rows = [row for row in way.rows if row[1] == level]
            own = sum(row[4] == level for row in rows) / len(rows)
            figures.figure(
                f"{texts}, {way.name}, {level}: told, lost, share of bf16, kept by the level's own coder",
                f"{statistics.fmean(r[2] for r in rows):.4f}, {statistics.fmean(r[3] for r in rows):.4f}, "
                f"{statistics.fmean(r[5] for r in rows):.3f}, {own:.0%}",
            )
        for name, level, told, lost, coder, size in over[:12]:
            found = f"{lost:.4f} lost, {told:.4f} told, {size:.3f} of bf16, by {coder}"
            figures.figure(f"{texts}, {way.name}: over, {name}, {level}", found)


if __name__ == "__main__":
    main()
