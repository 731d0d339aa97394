"""Facts planted at one place each: a full sweep has to name the place.

The donor is a model that was fine-tuned on other facts, so that every cell of the sweep changes something; in it one
matrix gets a change of rank one. The cell with the highest recovery of the planted answer is what is named.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from random import Random
from typing import Any

import torch

from services.grafting import engine, readings, runs
from services.grafting.engine import Configuration, Patch
from services.grafting.readings import Reading
from services.grafting.runs import Case, PromptRun, batches
from tests.benchmarks.figures import Figures
from tests.benchmarks.grafting_study import planting as planting_source
from tests.benchmarks.grafting_study.lab import Lab, grafter_of, sources
from tests.benchmarks.grafting_study.planting import Place, plant, planted, second_moments

PLANTS = 20
COMPONENTS = ("o", "down")
"""Where facts are planted, and what the sweep grafts: each by itself."""
PROMPTS = ("alongside", "stub")
"""Forms of the prompts: the short ones, as the cost of a sweep grows with the square of their length."""
WORKS, KNOWN = 0.5, 0.1
"""Least probability of the answer with the value in place, and of the donor. Below them nothing was planted: gradient
found no value, or the donor's other changes keep it from acting."""
PROMPTS_SEED, TEXTS_SEED = 1000, 2001
"""Of the facts whose prompts are used, and of those in whose texts inputs are seen: no model was trained on them."""


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
        (Place(layer, position, name), Configuration((Patch((position,), (layer,), (name,)),)))
        for position in range(len(ids))
        for layer in range(layers)
        for name in COMPONENTS
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
    """Plant in a seed's fine-tuned model, sweep and count."""
    plants = Planting(lab, seed)
    found = [plants.kept(number) for number in range(1, PLANTS + 1)]
    for number, each in enumerate(found, 1):
        figures.figure(f"plant {number:2}", each["told"])
    named = sum(each["named"] for each in found)
    figures.gate("planted places named by the highest cell of the sweep", f">= {PLANTS}", named)
    figures.figure(
        "of those with the next best cell at half the recovery or less", sum(e["clear"] for e in found)
    )
    redrawn = [place for each in found for place in each["redrawn"]]
    figures.figure("places drawn again, where nothing could be planted", "; ".join(redrawn) or "none")


class Planting:
    """Plants of one fine-tuned model, one after another; each result is kept."""

    def __init__(self, lab: Lab, seed: int) -> None:
        self._lab, self._seed, self._tuned = lab, seed, lab.tuned(seed)
        self._layers = lab.base.config.num_hidden_layers
        cases = [case for case in lab.set_of(PROMPTS_SEED).cases if case.form in PROMPTS]
        self._cases = Random(f"plants {seed}").sample(cases, PLANTS)

    @cached_property
    def _donor(self) -> Any:
        return self._lab.load(self._tuned)

    @cached_property
    def _moments(self) -> dict[tuple[int, str], torch.Tensor]:
        matrices = [(layer, name) for layer in range(self._layers) for name in COMPONENTS]
        texts = [self._lab.tokenizer(text.text).input_ids for text in self._lab.set_of(TEXTS_SEED).texts]
        return second_moments(self._lab.base, texts, matrices)

    def kept(self, number: int) -> dict[str, Any]:
        """What came of a plant, from 1."""
        models, case = [self._tuned.name, self._lab.base_folder.name], self._cases[number - 1]
        parts = [
            *models,
            number,
            case.prompt,
            case.target,
            COMPONENTS,
            sources(engine, readings, runs, planting_source),
        ]
        found = self._lab.kept_result(f"plant-{self._seed}-{number}", parts, lambda: self._made(number))
        print(f"plant {number}: {found['told']}", flush=True)
        return found

    def _made(self, number: int) -> dict[str, Any]:
        draw, case = Random(f"plant {self._seed} {number}"), self._cases[number - 1]
        tokenizer = self._lab.tokenizer
        ids, target = tokenizer(case.prompt).input_ids, tokenizer(case.target).input_ids[0]
        redrawn: list[str] = []
        while True:
            place = draw_place(draw, len(ids), self._layers)
            what = plant(self._lab.base, ids, target, place, self._moments[place.layer, place.component])
            with planted(self._donor, what):
                if what.probability >= WORKS and knows(self._donor, ids, target) >= KNOWN:
                    found = name_place(self._lab.base, self._donor, ids, target)
                    break
            redrawn.append(f"{_told(place)} of {len(ids)}")
        return {
            "named": found.place == place,
            "clear": found.place == place and found.second <= found.recovery / 2,
            "redrawn": redrawn,
            "told": f"{_told(place)} of {len(ids)} tokens, named {_told(found.place)}: recovery {found.recovery:.2f}, "
            f"next {found.second:.2f}; probability {found.probability:.2f}, of the base {found.base:.1e}, of the "
            f"donor {found.donor:.2f}",
        }


def _told(place: Place) -> str:
    return f"layer {place.layer} {place.component} token {place.position}"
