"""Grafting: parity with transformers and with swapped weights, and a sweep against three plain ways to do it.

``python -m tests.benchmarks.grafting [parity] [sweep] [growth] [peers]`` takes a few minutes on one core; peers, which
installs two other libraries, only where it is named. The pair of a sweep has SmolLM2-135M's shape and random weights,
which cost what trained ones do. Times are of this process's CPU, on one thread, the ways interleaved, medians of three;
what takes one pass for each cell is timed on a few cells and multiplied, for each of them costs the same.
"""

import copy
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from services.grafting.engine import Configuration, Patch
from services.grafting.runs import Case, PromptRun, batches
from tests.benchmarks.figures import Figures
from tests.unit.grafting.zoo import (
    ARCHITECTURES,
    drawn,
    drawn_ids,
    everything,
    grafter,
    make,
    near,
    own,
    swapped,
)

MASKS = 20
ROUNDS = 3
SHAPE = {"hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9,
         "num_key_value_heads": 3, "head_dim": 64, "vocab_size": 49152, "tie_word_embeddings": True}  # fmt: skip
LAYER = ("attention_norm", "q", "k", "v", "o", "mlp_norm", "gate", "up", "down")
ASKED = {9: ">= 14", 26: ">= 8"}
"""Tokens of the prompts, and how much faster than a hooked pass for each cell the sweep has to be."""
SAMPLED = 4
"""Cells on which a way is timed that runs one pass for each."""


def parity(figures: Figures) -> None:
    """Every architecture, tiny and random: both models' own logits, weights swapped token by token, and duality."""
    own_worst = swap_worst = dual_worst = 0.0
    for name in ARCHITECTURES:
        pair = (make(name, 0), make(name, 1))
        engine, back = grafter(*pair), grafter(*reversed(pair))
        ids = drawn_ids(0)
        for configuration, model in ((Configuration(), 0), (everything(9), 1)):
            own_worst = max(own_worst, _apart(engine.forward(ids, configuration), own(pair[model], ids)))
        worst = 0.0
        for seed in range(MASKS):
            ids, configuration = drawn_ids(seed, 6), drawn(seed, 6)
            found = engine.forward(ids, configuration)
            worst = max(worst, _apart(found, swapped(pair, ids, configuration)))
            rest = Configuration(
                (*everything(6, 1).patches, *(p._replace(source=0) for p in configuration.patches))
            )
            dual_worst = max(dual_worst, _apart(found, back.forward(ids, rest)))
        figures.figure(f"{name}: largest difference from swapped weights, {MASKS} masks", f"{worst:.1e}")
        swap_worst = max(swap_worst, worst)
    figures.gate("none and all: largest difference of a logit from the model's own", "<= 0.0001", own_worst)
    figures.gate(
        f"{MASKS} masks: largest difference from weights swapped token by token", "<= 0.001", swap_worst
    )
    figures.gate("duality: largest difference from grafting the other way", "<= 0.0001", dual_worst)
    figures.figure("none and all", f"{own_worst:.1e}")
    figures.figure("duality", f"{dual_worst:.1e}")


def _apart(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).abs().max())


class Ways:
    """One sweep of all tokens and layers, done in four ways."""

    def __init__(self, base: Any, donor: Any, tokens: int) -> None:
        self.base, self.donor, self.layers = base, donor, base.config.num_hidden_layers
        self.case = Case(tuple(drawn_ids(tokens, tokens)), (5,))
        self.engine = grafter(base, donor)
        self.cells = [(p, n) for n in range(self.layers) for p in range(tokens)]
        self._ids = torch.tensor([self.case.ids])

    def ours(self) -> list[float]:
        """The room's way; log-probabilities of the target by cell."""
        configurations = [Configuration((Patch((p,), (n,), LAYER),)) for p, n in self.cells]
        run, found = PromptRun(self.engine, self.case), [0.0] * len(self.cells)
        for batch in batches(self.case, configurations, self.layers):
            for number, reading in zip(batch.numbers, run.read(batch.plans, batch.source), strict=True):
                found[number] = reading.logprob
        return found

    def hooked(self, cells: Sequence[tuple[int, int]]) -> list[float]:
        """One forward pass for each cell, with hooks that replace one token's row behind each matrix and norm."""
        return [self._pass(self._ids, [cell], 0)[0] for cell in cells]

    def batched(self, layers: Sequence[int]) -> list[float]:
        """One forward pass for each layer, all positions of the cell side by side, logits of the last token only."""
        tokens = self._ids.shape[1]
        ids = self._ids.expand(tokens, -1)
        return [x for n in layers for x in self._pass(ids, [(p, n) for p in range(tokens)], 1)]

    @torch.inference_mode()
    def copied(self, cells: Sequence[tuple[int, int]]) -> list[float]:
        """A deep copy of the model for every token, with the donor's layer loaded into it, and one cache."""
        found = []
        for position, layer in cells:
            cache, logits = None, torch.empty(0)
            for at, token in enumerate(self.case.ids):
                model = copy.deepcopy(self.base)
                if at == position:
                    model.model.layers[layer].load_state_dict(self.donor.model.layers[layer].state_dict())
                step = model(input_ids=torch.tensor([[token]]), past_key_values=cache, use_cache=True)
                cache, logits = step.past_key_values, step.logits[0, -1]
            found.append(self._logprob(logits))
        return found

    @torch.inference_mode()
    def _pass(self, ids: torch.Tensor, cells: Sequence[tuple[int, int]], keep: int) -> list[float]:
        rows = torch.arange(len(cells))
        positions = torch.tensor([p for p, _ in cells])
        layer = cells[0][1]
        block, other = self.base.model.layers[layer], self.donor.model.layers[layer]

        def hook(theirs: Any) -> Callable[..., torch.Tensor]:
            def splice(_module: Any, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
                output = output.clone()
                output[rows, positions] = theirs(inputs[0][rows, positions])
                return output

            return splice

        names = [n for n, m in block.named_modules() if n.endswith("_proj") or n.endswith("layernorm")]
        handles = [block.get_submodule(n).register_forward_hook(hook(other.get_submodule(n))) for n in names]
        try:
            logits = self.base(input_ids=ids, use_cache=False, logits_to_keep=keep).logits[:, -1]
        finally:
            for handle in handles:
                handle.remove()
        return [self._logprob(row) for row in logits]

    def _logprob(self, logits: torch.Tensor) -> float:
        return float(torch.log_softmax(logits.double(), -1)[self.case.target[0]])


def sweep(figures: Figures) -> None:
    """What a full sweep costs beside the plain ways, and how many rows it computes."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    base = LlamaForCausalLM(LlamaConfig(**SHAPE)).eval()
    donor = near(base, 1, 0.02)
    for tokens in ASKED:
        sweep_of(figures, Ways(base, donor, tokens), tokens)


def sweep_of(figures: Figures, ways: "Ways", tokens: int) -> None:
    """Measure one prompt's sweep."""
    count, layers = len(ways.cells), [at * ways.layers // 2 for at in range(2)]
    sampled = ways.cells[:: count // SAMPLED + 1][:SAMPLED]
    works: dict[str, tuple[Callable[[], list[float]], float]] = {
        "hooks": (lambda: ways.hooked(sampled), len(sampled) / count),
        "batched": (lambda: ways.batched(layers), len(layers) / ways.layers),
        "ours": (ways.ours, 1.0),
    }
    if tokens == 9:
        works["copies"] = (lambda: ways.copied(sampled[:2]), 2 / count)
    found: dict[str, list[float]] = {}
    seconds: dict[str, list[float]] = {name: [] for name in works}
    ways.hooked(sampled[:1])  # warm
    for _ in range(ROUNDS):
        ways.engine.row_layers = 0
        for name, (work, share) in works.items():
            if name == "copies" and seconds[name]:
                continue  # once is slow enough
            start = time.process_time()
            found[name] = work()
            seconds[name].append((time.process_time() - start) / share)
    each = {name: statistics.median(values) for name, values in seconds.items()}
    over = {name: value / each["ours"] for name, value in each.items()}
    mine = dict(zip(ways.cells, found["ours"], strict=True))
    cells = {
        "hooks": sampled,
        "batched": [(p, n) for n in layers for p in range(tokens)],
        "copies": sampled[:2],
    }
    worst = max(
        abs(mine[c] - v)
        for name in cells
        if name in found
        for c, v in zip(cells[name], found[name], strict=True)
    )
    figures.gate(
        f"{tokens} tokens: CPU time of a hooked pass for each cell, over ours", ASKED[tokens], over["hooks"]
    )
    if tokens == 26:
        figures.gate(
            "26 tokens: hooks batched over positions, last logits, over ours", ">= 2.5", over["batched"]
        )
    if "copies" in over:
        figures.gate(
            "9 tokens: a copy for every token (2 cells, multiplied), over ours", ">= 200", over["copies"]
        )
    share = ways.engine.row_layers / (tokens * ways.layers) ** 2
    figures.gate(f"{tokens} tokens: row-layers, share of one pass for each cell", "<= 0.3", share)
    figures.gate(f"{tokens} tokens: largest difference of a cell's log-probability", "<= 0.001", worst)
    figures.figure(
        f"{tokens} tokens: seconds of CPU", {name: round(value, 2) for name, value in each.items()}
    )
    figures.figure(f"{tokens} tokens: over ours", {name: round(value, 1) for name, value in over.items()})
    figures.figure(f"{tokens} tokens: largest difference of a cell", f"{worst:.1e}")


def growth(figures: Figures) -> None:
    """How the count grows as tokens and layers double; counted from plans, which is what is run."""

    def rows(tokens: int, layers: int) -> int:
        case = Case(tuple(drawn_ids(1, tokens)), (5,))
        cells = [Configuration((Patch((p,), (n,), LAYER),)) for p in range(tokens) for n in range(layers)]
        found = sum(p.row_layers for batch in batches(case, cells, layers) for p in batch.plans)
        return found + 2 * tokens * layers

    small = rows(9, 12)
    for name, tokens, layers in (("tokens", 18, 12), ("layers", 9, 24), ("both", 18, 24)):
        figures.figure(f"{name} doubled: row-layers", f"{rows(tokens, layers) / small:.2f} times as many")


def peers(figures: Figures) -> None:
    """The same sweep in libraries for interventions; see ``grafting_peers``."""
    from tests.benchmarks import grafting_peers

    grafting_peers.peers(figures)


PARTS = {"parity": parity, "sweep": sweep, "growth": growth}
NAMED = {**PARTS, "peers": peers}


def main(names: Sequence[str]) -> None:
    """Measure and write."""
    figures = Figures("grafting")
    for name in names or PARTS:
        NAMED[name](figures)
    figures.write()


if __name__ == "__main__":
    main(sys.argv[1:])
