"""Loading through ``lm`` alone: hooks, gradients and passes without the scheduler."""

import subprocess
import sys
from pathlib import Path

import torch

from palimpsest.lm import SequenceInput, load
from palimpsest.lm.anatomy import anatomy_of

PROGRAM = """
import sys
from palimpsest.lm import SequenceInput, load
from palimpsest.lm.anatomy import anatomy_of

model = load(sys.argv[1], "cpu", trainable=True, threads=1)
part = anatomy_of(model.module).layers[-1]["down"]
seen = []
part.module_of(model.module).register_forward_hook(lambda module, inputs, output: seen.append(output.shape))
output = model.forward([SequenceInput(model.new_cache(), [1, 2, 3], logits="all")])[0]
import torch
loss = model.module(torch.tensor([[1, 2, 3]]), labels=torch.tensor([[1, 2, 3]])).loss
loss.backward()
gradient = part.module_of(model.module).weight.grad
print(tuple(output.logits.shape), [tuple(shape) for shape in seen], bool(gradient.any()))
above = ("palimpsest.engine", "palimpsest.jobs", "palimpsest.rpc", "services", "celery")
print(sorted(name for name in sys.modules if name.startswith(above)))
"""


def test_a_model_runs_with_hooks_and_gives_gradients_without_the_scheduler(tiny_model: Path):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tiny_model)], capture_output=True, text=True, check=True
    )
    result, imported = done.stdout.splitlines()
    vocabulary = load(tiny_model, "cpu", "float32", threads=1).vocab_size
    assert result == f"(3, {vocabulary}) [(1, 3, 64), (1, 3, 64)] True"
    assert imported == "[]"


def test_a_trainable_model_is_the_served_one(tiny_model: Path):
    served = load(tiny_model, "cpu", "float32", threads=1)
    trained = load(tiny_model, "cpu", trainable=True, threads=1)
    assert (served.forward_kind, trained.forward_kind) != ("transformers", "compiled")
    assert trained.forward_kind == "transformers"
    assert trained.dtype == torch.float32
    ids = list(range(5, 25))
    logits = [
        m.forward([SequenceInput(m.new_cache(), ids, logits="all")])[0].logits for m in (served, trained)
    ]
    torch.testing.assert_close(*logits, atol=2e-4, rtol=1e-4)
    assert all(parameter.requires_grad for parameter in trained.module.parameters())
    assert not any(parameter.requires_grad for parameter in served.module.parameters())


def test_a_step_of_training_changes_what_is_served(tiny_model: Path):
    model = load(tiny_model, "cpu", trainable=True, threads=1)
    ids = torch.tensor([[5, 6, 7, 8]])
    optimiser = torch.optim.SGD(model.module.parameters(), lr=0.02)
    losses = []
    for _ in range(3):
        loss = model.module(ids, labels=ids).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses == sorted(losses, reverse=True)
    logits = model.forward([SequenceInput(model.new_cache(), [5, 6, 7], logits="all")])[0].logits
    torch.testing.assert_close(logits, model.module(ids[:, :3]).logits[0].detach(), atol=1e-5, rtol=1e-5)


def test_parts_are_found_in_a_served_model_too(tiny_model: Path):
    model = load(tiny_model, "cpu", "float32", threads=1)
    again = load(tiny_model, "cpu", trainable=True, threads=1)
    for served, trained in zip(anatomy_of(model.module).layers, anatomy_of(again.module).layers, strict=True):
        for name in served:
            torch.testing.assert_close(
                served[name].weight(model.module), trained[name].weight(again.module).detach()
            )
