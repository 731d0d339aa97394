"""WHP: subtract what a reinforced model adds, from the logits of every step (Eldan and Russinovich 2023, equation 1).

``logits = b - alpha relu(r - b)``, with b the model's logits and r those of the model trained further on the forget set,
as in MUSE's code. Nothing is removed from the weights; both models are needed to serve it.
"""

from dataclasses import dataclass

from torch import Tensor

from services.unlearning.algorithms.parameters import Parameters, number


@dataclass(frozen=True, kw_only=True)
class WhpParameters(Parameters):
    """Hyper-parameters of WHP: ``alpha``, how much is subtracted; MUSE tries powers of two up to 256."""

    alpha: float = number(1.0, 0, 1024)


def combined_logits(base: Tensor, reinforced: Tensor, alpha: float) -> Tensor:
    """Logits of WHP, from those of the model and of the reinforced one, [..., vocabulary] each."""
    return base - alpha * (reinforced - base).relu()
