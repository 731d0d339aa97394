"""Drafts once more, as slowly and plainly as can be: the whole text through transformers each step, Python lists."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch

WEIGHTS = (0.01, 0.04, 0.15, 0.18, 0.12)


@dataclass(frozen=True)
class Item:
    """A draft: its tokens, and the sum the search goes by."""

    ids: tuple[int, ...]
    score: float

    @property
    def mean(self) -> float:
        return self.score / len(self.ids)


class Grams:
    """Counts of all 2- to 6-grams of some documents."""

    def __init__(self, documents: Sequence[Sequence[int]]) -> None:
        self.whole: Counter[tuple[int, ...]] = Counter()
        self.context: Counter[tuple[int, ...]] = Counter()
        for document in documents:
            for order in range(2, 7):
                for at in range(len(document) - order + 1):
                    gram = tuple(document[at : at + order])
                    self.whole[gram] += 1
                    self.context[gram[:-1]] += 1

    def share(self, before: Sequence[int], token: int) -> float:
        total = 0.0
        for order, weight in zip(range(2, 7), WEIGHTS, strict=True):
            context = tuple(before[-(order - 1) :])
            if len(context) == order - 1 and self.context[context]:
                total += weight * self.whole[(*context, token)] / self.context[context]
        return total


class Plain:
    """Searches for drafts of one prompt."""

    def __init__(self, model, prompt: Sequence[int], eos=frozenset(), most: int = 10) -> None:
        self.module, self.tokenizer = model.module, model.tokenizer
        self.prompt, self.eos, self.most = list(prompt), eos, most
        self.repeats = False

    def embed(self, ids: Sequence[int]) -> list[torch.Tensor]:
        with torch.inference_mode():
            return list(self.module.get_input_embeddings()(torch.tensor(list(ids))).double())

    def logits(self, vectors: Sequence[torch.Tensor]) -> list[float]:
        """Of the token after some input embeddings."""
        with torch.inference_mode():
            whole = torch.stack(list(vectors)).float()[None]
            return self.module(inputs_embeds=whole, use_cache=False).logits[0, -1].double().tolist()

    def logprobs(self, ids: Sequence[int] = ()) -> list[float]:
        """Of each token after the prompt and these."""
        row = self.logits(self.embed([*self.prompt, *ids]))
        total = _log_sum(row)
        return [value - total for value in row]

    def exact(self, ids: Sequence[int]) -> list[float]:
        """Log-probability of each token of a draft, from one pass over all of it."""
        whole = torch.tensor([[*self.prompt, *ids]])
        with torch.inference_mode():
            rows = torch.log_softmax(self.module(input_ids=whole).logits[0].double(), -1)
        return [float(rows[len(self.prompt) - 1 + n, token]) for n, token in enumerate(ids)]

    def text(self, ids: Sequence[int]) -> str:
        said = [token for token in ids if token not in self.eos]
        return self.tokenizer.decode(said, skip_special_tokens=True, clean_up_tokenization_spaces=False)

    def settle(self, children: Sequence[Item], ended: list[Item]) -> list[Item]:
        live = []
        for child in children:
            if child.ids[-1] not in self.eos and len(child.ids) < self.most:
                live.append(child)
            elif (self.repeats and child.ids[-1] not in self.eos) or self.text(child.ids) not in [
                self.text(one.ids) for one in ended
            ]:
                ended.append(child)
        return live

    def superposed(
        self, k: int, alpha: float = 0.0, documents: Sequence[Sequence[int]] = (), tau: float = 0.06,
        penalty: float = 200.0, every: int = 0, pool: int = 0, first: float = 0.25, floor: float = 1e-3,
    ) -> list[Item]:  # fmt: skip
        """Superposed Decoding, best first by mean score."""
        grams = Grams(documents) if documents and alpha else None
        ended: list[Item] = []
        base, past, exact = self.embed(self.prompt), [], 0
        live = self.settle([Item((t,), v / first) for t, v in _best(self.logprobs(), k)], ended)
        while live:
            room = k - len(ended)
            if every and len(live[0].ids) - exact >= every:
                best = max(live, key=lambda item: item.score)
                exact, past = len(best.ids), self.embed(best.ids)
                found = _best(self.logprobs(best.ids), room)
                live = self.settle([Item((*best.ids, t), best.score + v / first) for t, v in found], ended)
                continue
            total = _log_sum([item.score for item in live])
            past.append(
                sum(math.exp(item.score - total) * self.embed(item.ids[-1:])[0] for item in live)  # type: ignore[arg-type]
            )
            chosen = _best(self.logits([*base, *past]), pool or 3 * k)
            total = _log_sum([value / tau for _, value in chosen])
            pairs = []
            for number, item in enumerate(live):
                shares = [grams.share([*self.prompt, *item.ids], t) if grams else 1.0 for t, _ in chosen]
                shares = [(share + floor) / (1 + floor) for share in shares]
                for column, ((token, value), share) in enumerate(zip(chosen, shares, strict=True)):
                    gain = value / tau - total
                    if grams is not None:
                        gain *= 1 - alpha
                        if share > 0:
                            gain += alpha * math.log(share)
                        else:
                            gain -= max(2 * penalty, 400.0) if any(s > 0 for s in shares) else penalty
                    pairs.append((-(item.score + gain), number, column, token))
            live = self.settle(
                [Item((*live[n].ids, token), -score) for score, n, _, token in sorted(pairs)[:room]], ended
            )
        return sorted(ended, key=lambda item: -item.mean)

    def verified(self, made: int, k: int, *arguments) -> list[Item]:
        """The best of some superposed drafts, whose last token is what the model likes best after the others."""
        self.most, self.repeats = self.most - 1, True
        items = self.superposed(made, *arguments)
        self.most, self.repeats = self.most + 1, False
        read: list[Item] = []
        for item in items:
            ids = item.ids
            if ids[-1] not in self.eos and len(ids) < self.most:
                ids = (*ids, _best(self.logprobs(ids), 1)[0][0])
            read.append(Item(ids, sum(self.exact(ids))))
        read.sort(key=lambda item: -item.mean)
        texts = [self.text(item.ids) for item in read]
        return [item for n, item in enumerate(read) if texts[n] not in texts[:n]][:k]

    def beams(self, k: int) -> list[Item]:
        """Beam search, best first by mean log-probability."""
        ended: list[Item] = []
        live = self.settle([Item((t,), v) for t, v in _best(self.logprobs(), k)], ended)
        while live:
            pairs = []
            for number, item in enumerate(live):
                for token, value in enumerate(self.logprobs(item.ids)):
                    pairs.append((-(item.score + value), number, token))
            chosen = sorted(pairs)[: k - len(ended)]
            live = self.settle([Item((*live[n].ids, t), -score) for score, n, t in chosen], ended)
        return sorted(ended, key=lambda item: -item.mean)

    def diverse_beams(self, k: int, diversity: float = 1.0) -> list[Item]:
        """One beam a group, kept off the tokens of the earlier ones."""
        ended: list[Item] = []
        live = self.settle([Item((t,), v) for t, v in _best(self.logprobs(), k)], ended)
        while live:
            taken: Counter[int] = Counter()
            children = []
            for item in live:
                row = self.logprobs(item.ids)
                token = max(range(len(row)), key=lambda t, row=row: (row[t] - diversity * taken[t], -t))
                taken[token] += 1
                children.append(Item((*item.ids, token), item.score + row[token]))
            live = self.settle(children, ended)
        return sorted(ended, key=lambda item: -item.mean)


def _best(row: Sequence[float], count: int) -> list[tuple[int, float]]:
    """The largest of a row, the lowest id on ties."""
    order = sorted(range(len(row)), key=lambda t: (-row[t], t))[:count]
    return [(token, row[token]) for token in order]


def _log_sum(values: Sequence[float]) -> float:
    most = max(values)
    return most + math.log(sum(math.exp(value - most) for value in values))
