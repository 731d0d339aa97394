"""Grafts of one prompt: configurations over its tokens and those of its target, run and read."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from palimpsest.errors import InvalidArgument, Reason
from services.grafting.engine import Configuration, Grafter, Item, Patch, Plan, Reference, plan, row_layers
from services.grafting.readings import Reader, Reading

ROWS = 4096
"""Most rows that go through a layer together; what a batch needs of memory grows with them."""


def _go_on() -> None:
    """Check nothing."""


@dataclass(frozen=True)
class Case:
    """A prompt and what should follow it.

    Parameters
    ----------
    prompt, target
        Token ids, at least one of each.
    continue_grafted
        Whether target tokens that are fed back take their weights as the last prompt token does; otherwise they are the
        base's.
    """

    prompt: tuple[int, ...]
    target: tuple[int, ...]
    continue_grafted: bool = True

    @property
    def ids(self) -> tuple[int, ...]:
        """What goes through the models: all but the last target token."""
        return self.prompt + self.target[:-1]

    def extended(self, configuration: Configuration) -> Configuration:
        """Return a configuration of the prompt, said for the target tokens too."""
        last, fed = len(self.prompt) - 1, range(len(self.prompt), len(self.ids))
        if not self.continue_grafted or not fed:
            return configuration
        return configuration._replace(
            patches=tuple(
                Patch((*p.positions, *fed), p.layers, p.components, p.source) if last in p.positions else p
                for p in configuration.patches
            )
        )


def needs_pass(case: Case, contrast: Case) -> bool:
    """Whether a contrast is read after other tokens than the target is, and so in passes of its own."""
    return contrast.ids != case.ids


class Passes(NamedTuple):
    """Both models' own passes, made before, and what else was kept of them."""

    references: Sequence[Reference]
    kept: Any


class PromptRun:
    """Both models' own passes over one case, and any number of grafts beside them.

    Parameters
    ----------
    grafter
        With the base as source 0 and the donor as source 1.
    case
        Prompt and target.
    passes
        Both models' own, if they are there already.

    Attributes
    ----------
    reader
        Has the readings of both models' own passes.
    """

    def __init__(self, grafter: Grafter, case: Case, passes: Passes | None = None) -> None:
        self._grafter, self.case, self.passes = grafter, case, passes
        self._references: Sequence[Reference] = (
            [grafter.reference(case.ids, source, len(case.target)) for source in (0, 1)]
            if passes is None
            else passes.references
        )
        self.reader = self._reader(*(reference.logits for reference in self._references))

    def _reader(self, base: torch.Tensor, donor: torch.Tensor) -> Reader:
        return Reader(self.case.target, base, donor)

    @property
    def base(self) -> Reference:
        """The base's own pass."""
        return self._references[0]

    def read(self, plans: Sequence[Plan], source: int, check: Callable[[], None] = _go_on) -> list[Reading]:
        """Run plans beside one model's pass, and read each; ``check`` is called before each layer."""
        items = [Item(self._references[source], each) for each in plans]
        outputs = len(self.case.target)
        return [self.reader.read(logits) for logits in self._grafter.run(items, source, outputs, check)]


class Batch(NamedTuple):
    """What runs together: numbers of configurations with their plans, and the model that they share with."""

    numbers: list[int]
    plans: list[Plan]
    source: int


def batches(
    case: Case, configurations: Sequence[Configuration], layers: int, rows: int = ROWS
) -> Iterator[Batch]:
    """Divide configurations of one prompt into batches, always the same ones.

    Parameters
    ----------
    case
        Prompt and target.
    configurations
        Of the prompt.
    layers
        Of the models.
    rows
        Most rows of a batch, unless one configuration alone has more.
    """
    others: list[tuple[int, Plan]] = []

    def planned() -> Iterator[tuple[int, Plan]]:
        for number, configuration in enumerate(configurations):
            source, found = cheapest(case, configuration, layers)
            if source == 0:
                yield number, found
            else:
                others.append((number, found))

    yield from _divided(planned(), 0, rows)
    yield from _divided(others, 1, rows)


def _divided(plans: Iterable[tuple[int, Plan]], source: int, rows: int) -> Iterator[Batch]:
    batch, taken = Batch([], [], source), 0
    for number, planned in plans:
        if batch.plans and taken + planned.rows > rows:
            yield batch
            batch, taken = Batch([], [], source), 0
        batch.numbers.append(number)
        batch.plans.append(planned)
        taken += planned.rows
    if batch.plans:
        yield batch


def cheapest(case: Case, configuration: Configuration, layers: int) -> tuple[int, Plan]:
    """Return a model of which a configuration differs in few rows, and its plan beside it."""
    whole, sizes = case.extended(configuration), (len(case.ids), layers, len(case.target))
    beside_base = row_layers(whole, 0, *sizes)
    source = 0
    if 2 * beside_base > len(case.ids) * layers:  # few cells of a sweep
        source = int(row_layers(whole, 1, *sizes) < beside_base)
    return source, plan(whole, source, *sizes)


LONGEST = 2048
"""Most tokens of a prompt and its target: attention is computed as whole matrices here."""


def require_fits(case: Case, context: int, field: str = "case.prompt") -> None:
    """Refuse a case that is longer than the models' context, or than this room takes.

    Raises
    ------
    InvalidArgument
        PROMPT_TOO_LONG.
    """
    limit = min(context, LONGEST)
    if len(case.ids) > limit:
        raise InvalidArgument.field(
            Reason.PROMPT_TOO_LONG,
            field,
            f"The prompt and what follows it have {len(case.ids)} tokens to read, and these models take {limit} here. "
            "Shorten the prompt.",
            prompt_tokens=len(case.ids),
            context_length=limit,
        )
