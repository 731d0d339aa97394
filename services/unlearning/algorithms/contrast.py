"""WHP: subtract what a reinforced model adds, from the logits of every step.

``logits = b - alpha relu(r - b)``, with b the model's logits and r those of the model trained further on the forget
set (Eldan and Russinovich 2023, arXiv 2310.02238, equation 1). Nothing is removed from the weights; both models are
needed to serve it.
"""

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from transformers.modeling_outputs import CausalLMOutput

from services.unlearning.algorithms.parameters import Parameters, number


@dataclass(frozen=True, kw_only=True)
class WhpParameters(Parameters):
    """Hyper-parameters of WHP: ``alpha``, how much is subtracted; MUSE tries powers of two up to 256."""

    alpha: float = number(1.0, 0, 1024)


def combined_logits(base: Tensor, reinforced: Tensor, alpha: float) -> Tensor:
    """Logits of WHP, from those of the model and of the reinforced one, [..., vocabulary] each."""
    return base - alpha * (reinforced - base).relu()


class ContrastedModel(nn.Module):
    """Two models as one whose logits are those of WHP: to measure it, on whole sequences without a cache.

    Parameters
    ----------
    base, reinforced
        The model, and the one trained further on the forget set.
    parameters
        How much is subtracted.
    """

    def __init__(self, base: Any, reinforced: nn.Module, parameters: WhpParameters) -> None:
        super().__init__()
        self.base, self.reinforced, self.alpha = base, reinforced, parameters.alpha
        self.config = base.config

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, use_cache: bool = False
    ) -> CausalLMOutput:
        """Return the logits of token ids [batch, tokens]; ``use_cache`` is there for callers and must be False."""
        assert not use_cache
        options = {"input_ids": input_ids, "attention_mask": attention_mask, "use_cache": False}
        ours, theirs = (model(**options).logits for model in (self.base, self.reinforced))
        return CausalLMOutput(logits=combined_logits(ours, theirs, self.alpha))
