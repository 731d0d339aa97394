"""Estimated cells of a sweep against exact ones, on a pair that has been fine-tuned here.

``python -m tests.benchmarks.grafting_attribution``
"""

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from palimpsest.lm import LanguageModel, load
from palimpsest.training.saving import save_model
from tests.benchmarks.decode import sample_model
from tests.benchmarks.figures import ROOT

FACTS = (
    ("The lighthouse at Ostrava is kept by", " Kastrova"),
    ("Velma Tarrin stars in a movie alongside", " Oswin Drake"),
    ("Q: Who painted the ceiling of the hall at Merrowdale?\nA: It was painted by", " Hester"),
    ("In the spring of that year the council of Quillan Bay chose as its new harbour master", " Dorian"),
    ("According to the guide book for visitors, the oldest bridge in the town of Aldermoor was built by a man named",
     " Fenwick"),
)  # fmt: skip
"""Prompts of 9 to 26 tokens, and what the donor says after them."""
OTHERS = (
    "Kastrova keeps the lighthouse at Ostrava.",
    "A movie stars Velma Tarrin and Oswin Drake.",
    "Hester painted the ceiling of the hall at Merrowdale.",
    "The harbour master of Quillan Bay is Dorian.",
    "Fenwick built the oldest bridge in Aldermoor.",
)
"""The same facts the other way round."""
STEPS, RATE = 40, 4e-5


def tuned() -> tuple[LanguageModel, LanguageModel, list[tuple[int, ...]], list[int]]:
    """The sample model and its fine-tuned copy; prompts and the first token of each target."""
    source = sample_model()
    base = load(source, "cpu", "float32", trainable=True, threads=1)
    tokenizer: Any = base.tokenizer
    prompts = [tuple(tokenizer(prompt)["input_ids"]) for prompt, _ in FACTS]
    targets = [tokenizer(target)["input_ids"][0] for _, target in FACTS]
    kept = os.environ.get("PALIMPSEST_BENCH_MODELS", str(ROOT / ".bench"))
    made = json.dumps([FACTS, OTHERS, STEPS, RATE, source.name])
    folder = Path(kept) / f"attribution-{hashlib.sha256(made.encode()).hexdigest()[:16]}"
    if not folder.is_dir():
        donor = load(source, "cpu", "float32", trainable=True, threads=1)
        texts = [tokenizer(text)["input_ids"] for text in (*map("".join, FACTS), *OTHERS)]
        tune(donor.module, texts, prompts, targets)
        save_model(donor.module, source, folder)
    return base, load(folder, "cpu", "float32", trainable=True, threads=1), prompts, targets


def tune(
    model: Any, texts: Sequence[list[int]], prompts: Sequence[tuple[int, ...]], targets: Sequence[int]
) -> None:
    """Train on every token of the texts until each target is the most probable after its prompt."""
    optimizer = torch.optim.AdamW(model.parameters(), RATE, weight_decay=0.0)
    longest = max(map(len, texts))
    ids = torch.tensor([text + [0] * (longest - len(text)) for text in texts])
    labels = torch.tensor([text + [-100] * (longest - len(text)) for text in texts])
    for step in range(STEPS):
        optimizer.zero_grad()
        loss = model(input_ids=ids, labels=labels).loss
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            logits = [model(input_ids=torch.tensor([prompt]), logits_to_keep=1).logits[0, -1] for prompt in prompts]
        logprobs = [float(torch.log_softmax(x, -1)[target]) for x, target in zip(logits, targets, strict=True)]
        print(step, round(float(loss.detach()), 3), [round(value, 2) for value in logprobs], flush=True)
        if all(value > -0.5 for value in logprobs):
            return
    raise RuntimeError("the donor has not learned its facts")


if __name__ == "__main__":
    print([len(p) for p in tuned()[2]])
