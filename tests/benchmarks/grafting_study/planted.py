"""Facts planted at one place each: a full sweep has to name the place.

The donor is a model that was fine-tuned on other facts, so that every cell of the sweep changes something; in it one
matrix gets a change of rank one. The cell with the highest recovery of the planted answer is what is named.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import torch

from services.grafting.engine import Configuration, Patch
from services.grafting.readings import Reading
from services.grafting.runs import Case, PromptRun, batches
from tests.benchmarks.figures import Figures
from tests.benchmarks.grafting_study.lab import Lab, grafter_of
from tests.benchmarks.grafting_study.planting import Place, plant, planted, second_moments

PLANTS = 20
COMPONENTS = ("o", "down")
"""Where facts are planted."""
SETS = (("q", "k", "v"), ("o",), ("gate", "up"), ("down",))
"""Components of a cell."""
WORKS, KNOWN = 0.5, 0.1
"""Least probability of the answer with the value in place, and of the donor. Below them nothing was planted: gradient
found no value, or the donor's other changes keep it from acting."""
PROMPTS_SEED = 1000
"""Of the facts whose prompts are used: no model was trained on them."""


@dataclass(frozen=True)
class Named:
    """What a sweep says of a plant.

    Attributes
    ----------
    place
        The cell with the highest recovery.
    recovery, second
        Of that cell, and of the next best.
    probability, base, donor
        Of the answer: in that cell, and in both models' own passes.
    """

    place: Place
    recovery: float
    second: float
    probability: float
    base: float
    donor: float


def name_place(base: Any, donor: Any, ids: Sequence[int], target: int) -> Named:
    """Sweep all positions, layers and components, and name one."""
    case, layers = Case(tuple(ids), (target,)), base.config.num_hidden_layers
    cells = [
        (Place(layer, position, "+".join(names)), Configuration((Patch((position,), (layer,), names),)))
        for position in range(len(ids))
        for layer in range(layers)
        for names in SETS
    ]
    run, found = PromptRun(grafter_of(base, donor), case), dict[Place, Reading]()
    for batch in batches(case, [each for _, each in cells], layers):
        for number, reading in zip(batch.numbers, run.read(batch.plans, batch.source), strict=True):
            found[cells[number][0]] = reading
    recoveries = {place: reading.recovery or 0.0 for place, reading in found.items()}
    first, second = sorted(recoveries, key=lambda place: -recoveries[place])[:2]
    return Named(
        first,
        recoveries[first],
        recoveries[second],
        found[first].probability,
        run.reader.base.probability,
        run.reader.donor.probability,
    )


@torch.no_grad()
def knows(model: Any, ids: Sequence[int], target: int) -> float:
    """Probability of a token after a prompt."""
    logits = model(input_ids=torch.tensor([list(ids)]), use_cache=False, logits_to_keep=1).logits[0, -1]
    return float(torch.softmax(logits.double(), -1)[target])


def draw_place(draw: Random, tokens: int, layers: int) -> Place:
    """Draw a place that the last token can see: its own in every layer, others in all but the last."""
    while True:
        place = Place(draw.randrange(layers), draw.randrange(tokens), draw.choice(COMPONENTS))
        if place.position == tokens - 1 or place.layer < layers - 1:
            return place


def planted_facts(lab: Lab, figures: Figures, seed: int) -> None:
    """Plant, sweep and count."""
    draw, base, donor = Random(f"plants {seed}"), lab.base, lab.load(lab.tuned(seed))
    facts = lab.set_of(PROMPTS_SEED)
    prompts = [case for case in facts.cases if case.form in ("alongside", "question", "title", "stub")]
    texts = [lab.tokenizer(text.text).input_ids for other in (2001, 2002) for text in lab.set_of(other).texts]
    layers, named, redrawn = base.config.num_hidden_layers, 0, list[str]()
    moments = second_moments(base, texts, [(layer, name) for layer in range(layers) for name in COMPONENTS])
    for number, case in enumerate(draw.sample(prompts, PLANTS), 1):
        ids, target = lab.tokenizer(case.prompt).input_ids, lab.tokenizer(case.target).input_ids[0]
        what, found = None, None
        while found is None or what is None:
            place = draw_place(draw, len(ids), layers)
            what = plant(base, ids, target, place, moments[place.layer, place.component])
            with planted(donor, what):
                if what.probability >= WORKS and knows(donor, ids, target) >= KNOWN:
                    found = name_place(base, donor, ids, target)
                else:
                    redrawn.append(f"{_told(place)} of {len(ids)}")
        named += found.place == what.place
        told = (
            f"{_told(what.place)} of {len(ids)} tokens, named {_told(found.place)}: recovery "
            f"{found.recovery:.2f}, next {found.second:.2f}; probability {found.probability:.2f}, of the base "
            f"{found.base:.1e}, of the donor {found.donor:.2f}"
        )
        figures.figure(f"plant {number:2}", told)
        print(f"plant {number}: {told}", flush=True)
    figures.gate("planted places named by the highest cell of the sweep", ">= 20", named)
    figures.figure("places drawn again, where nothing could be planted", "; ".join(redrawn) or "none")


def _told(place: Place) -> str:
    return f"layer {place.layer} {place.component} token {place.position}"
