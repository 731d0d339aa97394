"""What coding a cache does to what the model says: sizes against divergence, and whole continuations."""

import statistics

import torch

from palimpsest.kv import LEVELS, KeyValues, decode, encode
from tests.benchmarks.codec.models import CONTINUATION, MEASURED, PREFIX, Sample, cache_of, halved, prefill
from tests.benchmarks.documents import evaluation_documents
from tests.benchmarks.figures import Figures

CHUNK = 1024
GREEDY = 64
WAYS = (("transform", (*LEVELS, "lossless")), ("classic", ("compact",)), ("generic", (MEASURED,)))

Mean = tuple[float, float, float]
"""Bytes, KL in nats a token, share of likeliest tokens that stay so: means over documents."""


@torch.no_grad()
def predictions(sample: Sample, kv: KeyValues, ids: list[int]) -> torch.Tensor:
    """Log-probabilities after each of the ids, on top of a cache: ``[ids, vocabulary]``."""
    found = sample.model(torch.tensor([ids]), past_key_values=cache_of(kv, sample.model))
    return found.logits[0].log_softmax(-1)


def divergence(exact: torch.Tensor, found: torch.Tensor) -> tuple[float, float]:
    """Mean KL in nats a token, and how often the likeliest token stays so."""
    kl = (exact.exp() * (exact - found)).sum(-1).mean()
    return float(kl), float((exact.argmax(-1) == found.argmax(-1)).float().mean())


@torch.no_grad()
def greedy(sample: Sample, kv: KeyValues, first: int) -> list[int]:
    """The likeliest continuation after one more token."""
    cache, ids = cache_of(kv, sample.model), [first]
    while len(ids) <= GREEDY:
        found = sample.model(torch.tensor([ids[-1:]]), past_key_values=cache, use_cache=True)
        ids.append(int(found.logits[0, -1].argmax()))
    return ids[1:]


def quality(sample: Sample, figures: Figures) -> dict[str, Mean]:
    """Code every evaluation document at every level; returns the means of each."""
    rows: dict[str, list[Mean]] = {}
    domains: dict[str, list[float]] = {}
    continued: list[tuple[float, float, float]] = []
    for domain, ids in evaluation_documents(sample.tokenizer, PREFIX + CONTINUATION):
        full = prefill(sample.model, ids[:PREFIX])
        exact, kv = predictions(sample, full, ids[PREFIX:]), halved(full)
        for codec, levels in WAYS:
            coded = [
                encode(c, levels=levels, codec=codec, profile=sample.profile, rotary=sample.profile.rotary)
                for c in kv.chunks(CHUNK)
            ]
            for level in levels:
                back = KeyValues.join([decode(each[level], profile=sample.profile) for each in coded])
                if level == "lossless":
                    assert back.keys.equal(kv.keys)
                    assert back.values.equal(kv.values)
                kl, agree = divergence(exact, predictions(sample, back, ids[PREFIX:]))
                size = sum(len(each[level]) for each in coded)
                rows.setdefault(f"{codec} {level}", []).append((size, kl, agree))
                if (codec, level) == ("transform", MEASURED):
                    domains.setdefault(domain, []).append(kl)
                    continued.append(continuation(sample, full, back, ids[PREFIX]))
    means = {name: _mean(each) for name, each in rows.items()}
    for domain, kls in domains.items():
        figures.figure(f"KL at {MEASURED}, {domain} ({len(kls)} documents)", statistics.fmean(kls))
    _gates(means, sample, figures)
    same, until, kl = _mean(continued)
    name = f"greedy continuation of {GREEDY} tokens at {MEASURED}, {len(continued)} documents"
    figures.gate(f"{name}: KL on the exact cache's path", "<= 0.015", kl)
    figures.figure(f"{name}: share of tokens the same", same)
    figures.figure(f"{name}: tokens until the first that differs", until)
    figures.figure(f"{name}: the same to the end", f"{sum(each[0] == 1 for each in continued)}")
    return means


def continuation(sample: Sample, full: KeyValues, back: KeyValues, first: int) -> tuple[float, float, float]:
    """Go on from the decoded cache and from the exact one: agreement, where they part, KL along the exact path."""
    wanted, found = greedy(sample, full, first), greedy(sample, back, first)
    path = [first, *wanted[:-1]]
    kl, _ = divergence(predictions(sample, full, path), predictions(sample, back, path))
    same = [a == b for a, b in zip(wanted, found, strict=True)]
    return statistics.fmean(same), same.index(False) if False in same else GREEDY, kl


def _mean(each: list[tuple[float, float, float]]) -> Mean:
    first, second, third = (statistics.fmean(part) for part in zip(*each, strict=True))
    return first, second, third


def _gates(means: dict[str, Mean], sample: Sample, figures: Figures) -> None:
    geometry = sample.profile.geometry
    bf16 = 2 * geometry.values_per_token * PREFIX
    # One byte a value, and two for each token's scale of a layer's keys and of its values.
    u8 = bf16 / 2 + 2 * geometry.layers * PREFIX * 2
    for name, (size, kl, agree) in means.items():
        share = f"{size / u8:.4f} of u8, {size / bf16:.4f} of bf16"
        figures.figure(name, f"{share}, KL {kl:.4f}, top-1 {agree:.4f}")
    lossy = [means[f"transform {level}"] for level in LEVELS]

    def smallest(limit: float, agree: float = 0.0) -> float:
        return min((size for size, kl, top in lossy if kl <= limit and top >= agree), default=float("inf"))

    classic = means["classic compact"]
    figures.gate("bytes / u8 at KL <= .015", "<= 0.25", smallest(0.015) / u8)
    figures.gate("bytes / bf16 at KL <= .05", "<= 0.09", smallest(0.05) / bf16)
    figures.gate("near-lossless (KL <= .004, top-1 >= .96) bytes / u8", "<= 0.40", smallest(0.004, 0.96) / u8)
    figures.gate("lossless bytes / bf16, bit-exact", "<= 0.70", means["transform lossless"][0] / bf16)
    figures.gate("classic KL at its gate", "<= 0.035", classic[1])
    figures.gate("classic bytes / u8 at KL <= .035", "<= 0.46", classic[0] / u8)
    figures.gate("transform / classic bytes at no more KL", "<= 0.5", smallest(classic[1]) / classic[0])
