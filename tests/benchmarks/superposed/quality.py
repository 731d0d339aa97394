"""What drafts are worth: perplexity under the model itself, likeness, and whether they hit how the text goes on."""

import math
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from palimpsest.decoding.drafts import (
    Draft,
    DraftDelta,
    DraftRequest,
    DraftsEnd,
    DraftSettings,
    DraftStrategy,
    Streaming,
)
from palimpsest.decoding.drafts.hypotheses import shared_length
from palimpsest.engine import Engine, Event, Request
from palimpsest.lm import LanguageModel, Sampling
from palimpsest.ngrams import NgramStore
from tests.benchmarks.figures import Figures
from tests.benchmarks.superposed.engine import NUCLEUS
from tests.benchmarks.superposed.text import TOKENS

AT_ONCE = 4


def strategies(tuned: DraftSettings) -> dict[str, DraftSettings]:
    """Everything that is compared."""
    plain = replace(tuned, strategy=DraftStrategy.SUPERPOSED, exact=True)
    return {
        "greedy": replace(tuned, k=1, strategy=DraftStrategy.BEAM),
        "beam-3": replace(tuned, strategy=DraftStrategy.BEAM),
        "diverse beam-3": replace(tuned, strategy=DraftStrategy.DIVERSE_BEAM),
        "nucleus x3": replace(tuned, strategy=DraftStrategy.NUCLEUS),
        "superposed": plain,
        "superposed, no n-grams": replace(plain, alpha=0.0),
        "superposed verified": replace(tuned, strategy=DraftStrategy.SUPERPOSED_VERIFIED),
    }


def drafts_for(
    engine: Engine, prefixes: Sequence[Sequence[int]], settings: DraftSettings, store: NgramStore
) -> list[list[Event]]:
    """Events of each prefix's request, a few requests at once."""
    found: list[list[Event]] = [[] for _ in prefixes]
    free = threading.Semaphore(AT_ONCE)
    done = threading.Semaphore(0)

    def deliver(number: int, events: Sequence[Event]) -> None:
        found[number] += events
        if any(isinstance(e, DraftsEnd) for e in events):
            free.release()
            done.release()

    for number, ids in enumerate(prefixes):
        free.acquire()
        sampling = replace(NUCLEUS, seed=number) if settings.strategy is DraftStrategy.NUCLEUS else Sampling()
        request = Request(
            list(ids), sampling, max_tokens=TOKENS, ignore_eos=True, strategy=DraftRequest(settings, store)
        )
        engine.submit(request, lambda events, number=number: deliver(number, events))
    for _ in prefixes:
        done.acquire()
    return found


def quality(engine: Engine, tuned: DraftSettings, store: NgramStore, prefixes: list[list[int]],
            real: list[list[int]], figures: Figures) -> None:  # fmt: skip
    """The table, its gates, and 95 % intervals of the ratios by resampling prefixes."""
    losses: dict[str, np.ndarray] = {}
    overlaps: dict[str, float] = {}
    for name, settings in strategies(tuned).items():
        print(f"{len(prefixes)} prefixes: {name}", flush=True)
        events = drafts_for(engine, prefixes, settings, store)
        drafts = [[e for e in some if isinstance(e, Draft)] for some in events]
        losses[name] = np.array([_losses(some, settings.k) for some in drafts])
        ends = [e for some in events for e in some if isinstance(e, DraftsEnd)]
        overlaps[name] = float(np.mean([e.overlap for e in ends]))
        own = np.exp(losses[name])
        hits = [
            max(shared_length(d.ids, goes_on) for d in some)
            for some, goes_on in zip(drafts, real, strict=True)
        ]
        rebuilt = all(_rebuilds(some) for some in events)
        figures.figure(
            name,
            f"drafts {' '.join(f'{x:.2f}' for x in own.mean(0))}; mean {own.mean():.2f}, best "
            f"{own.min(1).mean():.2f}, geometric {math.exp(losses[name].mean()):.2f}; overlap "
            f"{overlaps[name]:.2f}; first tokens as the text really has them {np.mean(hits):.2f}",
        )
        figures.gate(f"{name}: requests whose deltas rebuild every draft", "== 1", float(rebuilt))

    def gate(label: str, asked: str, share) -> None:
        value, low, high = _interval(share, len(prefixes))
        figures.gate(label, asked, value)
        figures.figure(f"{label}, 95 % interval", f"{low:.3f} to {high:.3f}")

    one = losses["nucleus x3"][:, 0]
    three, spd = losses["nucleus x3"], losses["superposed"]
    verified, diverse = losses["superposed verified"], losses["diverse beam-3"]
    gate(
        "perplexity, best of 3 superposed / one nucleus sample", "<= 0.95",
        lambda n: np.exp(spd[n]).min(1).mean() / np.exp(one[n]).mean(),
    )  # fmt: skip
    gate(
        "geometric mean perplexity, superposed verified / nucleus x3", "<= 1.05",
        lambda n: math.exp(verified[n].mean() - three[n].mean()),
    )  # fmt: skip
    gate(
        "geometric mean perplexity, diverse beam / superposed", "<= 1.3",
        lambda n: math.exp(diverse[n].mean() - spd[n].mean()),
    )  # fmt: skip
    figures.gate("places with the same token in two diverse drafts", "<= 0.6", overlaps["diverse beam-3"])
    best = np.exp(three).min(1).mean()
    figures.figure(
        "best of 3 superposed / best of 3 nucleus samples", float(np.exp(spd).min(1).mean() / best)
    )


def _losses(drafts: Sequence[Draft], k: int) -> list[float]:
    """Mean loss of a token for each draft, nats; in the order of their places, so that a sample is any of them."""
    found = [-d.logprob / len(d.ids) for d in sorted(drafts, key=lambda d: d.slot) if d.logprob is not None]
    return (found * k)[:k]  # where two samples were the same, one of them counts twice


def _rebuilds(events: Sequence[Event]) -> bool:
    texts: dict[int, str] = {}
    ids: dict[int, tuple[int, ...]] = {}
    for event in events:
        if isinstance(event, DraftDelta):
            texts[event.slot] = texts.get(event.slot, "")[: event.keep_chars] + event.text
            ids[event.slot] = ids.get(event.slot, ())[: event.keep_tokens] + event.ids
    drafts = [e for e in events if isinstance(e, Draft)]
    return bool(drafts) and all(texts[d.slot] == d.text and ids[d.slot] == d.ids for d in drafts)


def _interval(share, size: int) -> tuple[float, float, float]:
    rng = np.random.default_rng(5)
    values = sorted(share(rng.integers(0, size, size)) for _ in range(1000))
    return float(share(np.arange(size))), values[25], values[974]


def exactness(model: LanguageModel, engine: Engine, tuned: DraftSettings, store: NgramStore,
              prefixes: list[list[int]], figures: Figures) -> None:  # fmt: skip
    """Log-probabilities against transformers' own forward, and one draft against greedy decoding."""
    worst = 0.0
    for settings in (
        replace(tuned, strategy=DraftStrategy.SUPERPOSED, exact=True),
        replace(tuned, strategy=DraftStrategy.SUPERPOSED_VERIFIED),
        replace(tuned, strategy=DraftStrategy.BEAM),
        replace(tuned, strategy=DraftStrategy.NUCLEUS),
    ):
        for ids, events in zip(prefixes, drafts_for(engine, prefixes, settings, store), strict=True):
            for draft in (e for e in events if isinstance(e, Draft)):
                with torch.inference_mode():
                    whole = torch.tensor([[*ids, *draft.ids]])
                    logits = model.module(input_ids=whole).logits[0, len(ids) - 1 : -1].float()
                own = torch.log_softmax(logits, -1).gather(1, torch.tensor(draft.ids)[:, None])[:, 0]
                assert draft.logprobs is not None
                worst = max(worst, float((own - torch.tensor(draft.logprobs)).abs().max()))
    figures.gate(
        "log-probability of a token against transformers' forward, worst difference", "<= 0.0001", worst
    )
    alone = DraftSettings(k=1, strategy=DraftStrategy.SUPERPOSED, streaming=Streaming.FINAL)
    same = 0
    for ids, events in zip(prefixes, drafts_for(engine, prefixes, alone, store), strict=True):
        with torch.inference_mode():
            text = torch.tensor([ids])
            for _ in range(TOKENS):
                step = model.module(input_ids=text).logits[0, -1].argmax()
                text = torch.cat([text, step.reshape(1, 1)], dim=1)
        draft = next(e for e in events if isinstance(e, Draft))
        same += text[0, len(ids) :].tolist() == list(draft.ids)
    figures.gate(f"k = 1 without n-grams is greedy, of {len(prefixes)} prefixes", f"== {len(prefixes)}", same)


def counted(store: NgramStore, corpus: list[list[int]], figures: Figures) -> None:
    """Counts of a store against a dictionary of all its n-grams."""
    rng, wrong, asked = np.random.default_rng(3), 0, 0
    for order in range(2, 7):
        table: Counter[tuple[int, ...]] = Counter()
        totals: Counter[tuple[int, ...]] = Counter()
        for ids in corpus:
            for at in range(len(ids) - order + 1):
                gram = tuple(ids[at : at + order])
                table[gram] += 1
                totals[gram[:-1]] += 1
        known = list(table)
        for n in rng.integers(0, len(known), 2000):
            context = known[int(n)][:-1]
            others = [known[int(n)][-1], *rng.integers(0, store.vocab_size, 4).tolist()]
            counts, total = store.counts(list(context), np.array(others, dtype=np.int32))
            expected = [table.get((*context, t), 0) for t in others]
            wrong += counts.tolist() != expected or total != totals[context]
            asked += 1
    figures.gate(f"counts that differ from a dictionary's, of {asked} contexts", "== 0", wrong)
