"""What an algorithm works on: the model, the data, and the batches of each step.

The forget set drives the epoch. The retain set is cycled in an order of its own. Which examples a step sees is a
function of (seed, step) alone, so a run that is resumed sees what it would have seen.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor, nn

from palimpsest.errors import InvalidArgument, Reason
from palimpsest.training.batches import Batch, Example, collate
from palimpsest.training.order import Order, derived_seed


@dataclass(frozen=True, eq=False)
class Inputs:
    """The model and data of one removal request.

    Attributes
    ----------
    module
        transformers' module as it is before the request (θ0 in the formulas).
    forget
        What is to be forgotten.
    retain
        Data to be kept; empty where there is none.
    alternatives
        For each example of ``forget``, other examples of the same prompt whose answers are allowed, such as refusals.
    reference
        A frozen module that the run's model is compared with; None where the algorithm needs none, or ``adapter``.
    adapter
        The run trains an adapter: the model without it is the reference, and no second model is needed.
    batch
        Examples of one step, from each set.
    seed
        Of the orders, and of what else is drawn.
    pad
        Token id that fills rows up.
    """

    module: nn.Module
    forget: Sequence[Example]
    retain: Sequence[Example] = ()
    alternatives: Sequence[Sequence[Example]] = ()
    reference: nn.Module | None = None
    adapter: bool = False
    batch: int = 8
    seed: int = 0
    pad: int = 0

    @cached_property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.module.parameters()).device

    @cached_property
    def _forget_order(self) -> Order:
        return Order(len(self.forget), self.batch, derived_seed(self.seed, "forget"))

    @cached_property
    def _retain_order(self) -> Order:
        return Order(len(self.retain), self.batch, derived_seed(self.seed, "retain"))

    @property
    def steps_per_epoch(self) -> int:
        """Steps until every example of the forget set was seen once."""
        return self._forget_order.steps_per_epoch

    def forget_batch(self, step: int) -> Batch:
        """Return the forget examples of a step; ``items`` are their places in ``forget``."""
        return collate(self.forget, self._forget_order.at(step), self.pad, self.device)

    def retain_batch(self, step: int) -> Batch:
        """Return the retain examples of a step."""
        return collate(self.retain, self._retain_order.at(step), self.pad, self.device)

    def alternative_batch(self, step: int) -> tuple[Batch, Tensor]:
        """Return, for each forget example of a step, one of its alternatives, drawn anew in each step.

        Returns
        -------
        tuple
            The batch, its rows in the order of :meth:`forget_batch`'s and ``items`` the same, and int64 [batch]: the
            place of each row among the alternatives of its example.
        """
        items = self._forget_order.at(step)
        places = [
            derived_seed(self.seed, "alternative", step, item) % len(self.alternatives[item])
            for item in items
        ]
        chosen = [self.alternatives[item][place] for item, place in zip(items, places, strict=True)]
        batch = collate(chosen, range(len(chosen)), self.pad, self.device)
        batch = replace(batch, items=torch.tensor(items, device=self.device))
        return batch, torch.tensor(places, device=self.device)

    def require(self, needs: frozenset[str], algorithm: str) -> None:
        """Check that the data an algorithm needs is there.

        Parameters
        ----------
        needs
            Of "forget", "retain", "alternatives", "reference" (the run of an adapter has one in itself), "teacher" and
            "never_knew".
        algorithm
            The id, for messages.

        Raises
        ------
        InvalidArgument
            ALGORITHM_INPUT_MISSING, naming the field.
        """
        for name, what in _WHAT.items():
            if name not in needs or (name == "reference" and self.adapter):
                continue
            field = "reference" if name in ("teacher", "never_knew") else name
            if getattr(self, field) in (None, (), []):
                message = f"{algorithm!r} needs {what}. Give it, or choose an algorithm that works without."
                raise InvalidArgument.field(Reason.ALGORITHM_INPUT_MISSING, field, message)
        if "alternatives" in needs and (
            len(self.alternatives) != len(self.forget) or not all(self.alternatives)
        ):
            message = (
                f"{algorithm!r} needs at least one alternative for each of the {len(self.forget)} forget examples, in "
                "their order."
            )
            raise InvalidArgument.field(Reason.ALGORITHM_INPUT_MISSING, "alternatives", message)


_WHAT = {
    "forget": "data to forget",
    "retain": "data to retain",
    "alternatives": "other answers to the prompts of the forget set",
    "reference": "a frozen copy of the model to compare with",
    "teacher": "a frozen copy of the unlearned model, as its reference",
    "never_knew": "a model that never saw the data, as its reference",
}
