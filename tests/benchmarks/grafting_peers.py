"""The sweep of the grafting benchmark in two libraries for interventions, each in its fastest way that gives our cells.

Neither knows weights of another model as such. In both, the donor's modules are called on the inputs that the base's
have at the grafted tokens, and what they give replaces the base's outputs there: pyvene by two interventions of our
own for each module, one that keeps the input and one that replaces the output; nnsight by an assignment in a trace.
Both run one pass for each cell, or one for each layer with a copy of the prompt for each token; the faster counts.

They are installed beside this environment's torch and transformers, into ``.bench/peers``, at the versions below.
"""

import importlib
import json
import os
import statistics
import subprocess
import sys
import sysconfig
import time
import venv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from tests.benchmarks.figures import ROOT, Figures
from tests.benchmarks.grafting import ROUNDS, SAMPLED, SHAPE, Ways
from tests.unit.grafting.zoo import near

PINNED = ("nnsight==0.8.1", "pyvene==0.1.8")
TOKENS = (9, 26)
LAYERS_SAMPLED = 2
MODULES = ("input_layernorm", "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
           "post_attention_layernorm", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")  # fmt: skip

Rows = Sequence[tuple[int, int]]
"""Cells of one layer, (position, layer), each with a row of the batch."""


def peers(figures: Figures) -> None:
    """Measure in an environment that has both, and tell the ratios."""
    command = [str(_environment()), "-W", "ignore", "-m", "tests.benchmarks.grafting_peers"]
    path = os.pathsep.join((str(ROOT), str(ROOT / "shared")))
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    for tokens, found in json.loads(done.stdout.splitlines()[-1]).items():
        each, ours = found["seconds"], found["seconds"]["ours"]
        libraries = {name: min(each[name], each[f"{name}, batched"]) for name in ("pyvene", "nnsight")}
        fastest = min(libraries, key=lambda name: libraries[name])
        figures.gate(f"{tokens} tokens: CPU time of {fastest} over ours", ">= 5", libraries[fastest] / ours)
        figures.gate(f"{tokens} tokens: largest difference of a cell", "<= 0.001", found["worst"])
        figures.figure(f"{tokens} tokens: seconds of CPU", {n: round(s, 2) for n, s in each.items()})
        figures.figure(f"{tokens} tokens: over ours", {n: round(s / ours, 1) for n, s in each.items()})
    figures.figure("libraries", ", ".join(PINNED))


def _environment() -> Path:
    """Python with both libraries, and this environment's packages below them."""
    folder = ROOT / ".bench" / "peers"
    python = folder / "bin" / "python"
    installed = folder / "installed.json"
    if installed.exists() and json.loads(installed.read_text()) == list(PINNED):
        return python
    venv.create(folder, clear=True, with_pip=True, symlinks=True)
    (version,) = (folder / "lib").iterdir()
    (version / "site-packages" / "below.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    kept = [f"{name}=={importlib.import_module(name).__version__}" for name in ("torch", "transformers")]
    subprocess.run([python, "-m", "pip", "install", "-q", *PINNED, *kept], check=True, stdout=sys.stderr)
    installed.write_text(json.dumps(PINNED))
    return python


class Pyvene:
    """Interventions of pyvene: one object for each layer, as its own sweeps have."""

    def __init__(self, ways: Ways) -> None:
        pv: Any = importlib.import_module("pyvene")
        self._ways, self._build = ways, pv.IntervenableModel

        class Keep(pv.ConstantSourceIntervention):
            def __init__(self, kept: dict[str, torch.Tensor], name: str) -> None:
                super().__init__()
                self.keep_last_dim, self.kept, self.name = True, kept, name

            def forward(self, base: torch.Tensor, source: Any = None, subspaces: Any = None) -> torch.Tensor:
                self.kept[self.name] = base
                return base

        class Replace(pv.ConstantSourceIntervention):
            def __init__(self, kept: dict[str, torch.Tensor], name: str, other: Any) -> None:
                super().__init__()
                self.keep_last_dim, self.kept, self.name, self.other = True, kept, name, (other,)

            def forward(self, base: torch.Tensor, source: Any = None, subspaces: Any = None) -> torch.Tensor:
                return self.other[0](self.kept[self.name])

        self._keep, self._replace = Keep, Replace

    @torch.inference_mode()
    def run(self, cells: Rows) -> torch.Tensor:
        """Last logits of a pass with a row for each cell."""
        layer, kept, parts = cells[0][1], {}, []
        for name in MODULES:
            path, other = f"model.layers[{layer}].{name}", self._ways.donor.model.layers[layer]
            parts.append({"component": f"{path}.input", "intervention": self._keep(kept, name)})
            replace = self._replace(kept, name, other.get_submodule(name))
            parts.append({"component": f"{path}.output", "intervention": replace})
        model = self._build(parts, model=self._ways.base)
        places = [[[position] for position, _ in cells]] * len(parts)
        ids = torch.tensor([self._ways.case.ids]).expand(len(cells), -1)
        inputs = {"input_ids": ids, "use_cache": False, "logits_to_keep": 1}
        return model(inputs, unit_locations={"base": places})[1].logits[:, -1]


class Nnsight:
    """Assignments in a trace of nnsight."""

    def __init__(self, ways: Ways) -> None:
        self._ways, self._model = ways, importlib.import_module("nnsight").NNsight(ways.base)

    @torch.inference_mode()
    def run(self, cells: Rows) -> torch.Tensor:
        """Last logits of a pass with a row for each cell."""
        layer, rows = cells[0][1], torch.arange(len(cells))
        positions = torch.tensor([position for position, _ in cells])
        other = self._ways.donor.model.layers[layer]
        pairs = [(self._model.get(f"model.layers.{layer}.{n}"), other.get_submodule(n)) for n in MODULES]
        ids = torch.tensor([self._ways.case.ids]).expand(len(cells), -1)
        with self._model.trace(input_ids=ids, use_cache=False, logits_to_keep=1):
            for mine, theirs in pairs:
                mine.output[rows, positions] = theirs(mine.input[rows, positions])
            logits = self._model.output.logits.save()
        return logits[:, -1]


def measure(ways: Ways) -> dict[str, Any]:
    """Seconds of CPU of the whole sweep in each way, and the largest difference of a cell from ours."""
    count, tokens = len(ways.cells), len(ways.case.ids)
    single = [[cell] for cell in ways.cells[:: count // SAMPLED + 1][:SAMPLED]]
    layers = [at * ways.layers // LAYERS_SAMPLED for at in range(LAYERS_SAMPLED)]
    batched = [[(p, n) for p in range(tokens)] for n in layers]
    arms: dict[str, tuple[Callable[[Rows], torch.Tensor], list[list[tuple[int, int]]]]] = {}
    for name, library in (("pyvene", Pyvene(ways)), ("nnsight", Nnsight(ways))):
        arms |= {name: (library.run, single), f"{name}, batched": (library.run, batched)}
    seconds: dict[str, list[float]] = {name: [] for name in (*arms, "ours")}
    worst = 0.0
    for turn in range(ROUNDS + 1):
        start = time.process_time()
        ours = dict(zip(ways.cells, ways.ours(), strict=True))
        taken = {"ours": time.process_time() - start}
        for name, (run, passes) in arms.items():
            start = time.process_time()
            logits = [run(cells) for cells in passes]
            taken[name] = (time.process_time() - start) * count / sum(map(len, passes))
            for cells, found in zip(passes, logits, strict=True):
                there = torch.log_softmax(found.double(), -1)[:, ways.case.target[0]].tolist()
                worst = max(worst, *(abs(ours[c] - v) for c, v in zip(cells, there, strict=True)))
        if turn:  # the first warms up
            for name, value in taken.items():
                seconds[name].append(value)
    return {"seconds": {name: statistics.median(each) for name, each in seconds.items()}, "worst": worst}


def main() -> None:
    """Measure where both libraries are, and print one line of JSON."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    base = LlamaForCausalLM(LlamaConfig(**SHAPE)).eval()
    donor = near(base, 1, 0.02)
    print(json.dumps({tokens: measure(Ways(base, donor, tokens)) for tokens in TOKENS}))


if __name__ == "__main__":
    main()
