"""What is known of an algorithm: its id, what it does and needs, its hyper-parameters, how its objective is made."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from services.unlearning.algorithms.inputs import Inputs
from services.unlearning.algorithms.objective import Combined
from services.unlearning.algorithms.parameters import Parameters, parse

TRAINED, EDITED, SERVED, EXACT = "trained", "edited", "served", "exact"
"""How an algorithm works: by minimising an objective, by a change of the weights in one go, on logits while text is
generated, or by training again without the data, which is exact."""


@dataclass(frozen=True, kw_only=True)
class NoParameters(Parameters):
    """For algorithms without hyper-parameters of their own."""


@dataclass(frozen=True)
class Algorithm:
    """One algorithm.

    Attributes
    ----------
    id
        Its name in requests.
    card
        One line on what it does.
    kind
        How it works; see above.
    parameters
        Class of its hyper-parameters.
    fixed
        Hyper-parameters that the id decides.
    data
        What it always needs: "forget", "retain", "alternatives", "reference", "teacher", "never_knew".
    make
        Makes the objective of one that is trained or exact. For one that is edited or served it makes the objective of
        the reinforced model, or is None where there is none.
    """

    id: str
    card: str
    kind: str
    parameters: type[Parameters]
    make: Callable[[Any, Inputs], Combined] | None
    fixed: Mapping[str, object] = field(default_factory=dict)
    data: frozenset[str] = frozenset({"forget"})

    def parse(self, values: Mapping[str, object] | None = None) -> Parameters:
        """Return hyper-parameters, with defaults for what is not given.

        Raises
        ------
        InvalidArgument
            ALGORITHM_PARAMETER_INVALID: an unknown name, or a value out of bounds; the violation names the field.
        """
        return parse(self.parameters, values or {}, self.fixed, self.id)

    def needs(self, parameters: Parameters) -> frozenset[str]:
        """Return what data it needs with these hyper-parameters."""
        return self.data | parameters.needs
