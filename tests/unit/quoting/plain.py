"""The algorithm once more, as slowly and plainly as can be: one whole pass a token, Python lists, no cache."""

import math

import torch

from palimpsest.candidates import Candidates, Mode, NestSettings


class Plain:
    """Greedy quoting by loops. ``say`` gives tokens and, for those taken from the block, their places."""

    def __init__(self, model, block: Candidates, settings: NestSettings, special: set[int]) -> None:
        self.model, self.block, self.special = model, block, special
        self.settings = settings
        self.used: set[int] = set()

    def states(self, ids: list[int]) -> tuple[list[float], list[float]]:
        """Logits and scaled MLP input at the last token."""
        seen = []
        mlp = self.model.module.model.layers[-1].mlp
        hook = mlp.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0][0, -1].double().clone()))
        with torch.inference_mode():
            logits = self.model.module(input_ids=torch.tensor([ids])).logits[0, -1].double()
        hook.remove()
        return logits, seen[0] / seen[0].norm() * math.sqrt(len(seen[0]))

    def mix(self, ids: list[int]):
        """The mixture as a list, the model's weight, and neighbours as (weight, place), best first."""
        logits, query = self.states(ids)
        model = torch.softmax(logits, 0)
        keys = (
            torch.from_numpy(self.block.keys).double() * torch.from_numpy(self.block.scales).double()[:, None]
        )
        live = [
            n for n in range(len(self.block))
            if self.block.scales[n] > 0 and n not in self.used and int(self.block.tokens[n]) not in self.special
        ]  # fmt: skip
        if len(live) < 8:
            return model, 1.0, []
        near = sorted((float((keys[n] - query).square().sum()), n) for n in live)[: self.settings.r]
        ratio = near[0][0] / near[-1][0]
        weight = 1 / (1 + math.exp(-(ratio - self.settings.alpha) / self.settings.tau))
        if self.settings.mode is Mode.KNN_LM:
            weight = self.settings.lm_weight
        passages, top = self.block.passage_of(), max(p.score for p in self.block.passages)
        scores = [
            -self.settings.mu / math.sqrt(len(query)) * s
            + self.settings.beta * math.log(self.block.passages[passages[n]].score / top)
            for s, n in near
        ]
        most = max(scores)
        shares = [math.exp(s - most) for s in scores]
        mixed = weight * model
        for share, (_, n) in zip(shares, near, strict=True):
            mixed[int(self.block.tokens[n])] += (1 - weight) * share / sum(shares)
        ranked = sorted(((x / sum(shares), n) for x, (_, n) in zip(shares, near, strict=True)), reverse=True)
        return mixed, weight, ranked

    def run(self, prompt: list[int], count: int) -> list[tuple[int, int]]:
        """``count`` tokens with places, -1 for tokens that are nobody's."""
        ids, out = list(prompt), []
        passages = self.block.passage_of()
        onward, fresh = -1, []

        def say(token: int, position: int) -> None:
            ids.append(token)
            out.append((token, position))
            if position >= 0:
                fresh.append(position)

        while len(out) < count:
            mixed, weight, ranked = self.mix(ids)
            best = float(mixed.max())
            if onward >= 0:
                token = int(self.block.tokens[onward])
                if float(mixed[token]) > 0.5 * self.settings.gamma * best:
                    say(token, onward)
                else:
                    onward = -1
                    self.used |= set(fresh)
                    fresh = []
                    say(int(mixed.argmax()), -1)
                    continue
            else:
                token = int(mixed.argmax())
                carriers = [n for _, n in ranked if int(self.block.tokens[n]) == token and n not in fresh]
                self.used |= set(fresh)
                fresh = []
                spans = self.settings.mode in (Mode.NEST, Mode.NEST_STRICT)
                if spans and weight <= self.settings.delta and carriers:
                    say(token, carriers[0])
                    onward = carriers[0]
                else:
                    say(token, -1)
            if onward >= 0:
                onward += 1
                inside = onward < len(self.block) and passages[onward] == passages[onward - 1]
                if not inside or onward in self.used or int(self.block.tokens[onward]) in self.special:
                    onward = -1
        return out
