"""WHP: subtract what a reinforced model adds, from the logits of every step.

``logits = b - alpha relu(r - b)``, with b the model's logits and r those of the model trained further on the forget
set (Eldan and Russinovich 2023, arXiv 2310.02238, equation 1). Nothing is removed from the weights; both models are
needed to serve it.
"""

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from transformers.modeling_outputs import CausalLMOutputWithPast

from services.unlearning.algorithms.parameters import Parameters, number


@dataclass(frozen=True, kw_only=True)
class WhpParameters(Parameters):
    """Hyper-parameters of WHP: ``alpha``, how much is subtracted; MUSE tries powers of two up to 256."""

    alpha: float = number(1.0, 0, 1024)


def combined_logits(base: Tensor, reinforced: Tensor, alpha: float) -> Tensor:
    """Logits of WHP, from those of the model and of the reinforced one, [..., vocabulary] each."""
    return base - alpha * (reinforced - base).relu()


class ContrastedModel(nn.Module):
    """Two models as one whose logits are those of WHP, to measure it.

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
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Any = None,
        use_cache: bool = False,
        logits_to_keep: int = 0,
    ) -> CausalLMOutputWithPast:
        """Return the logits of token ids [batch, tokens]; the cache is that of both models, as a pair."""
        found = [
            model(
                input_ids=input_ids,
                attention_mask=attention_mask,
                position_ids=position_ids,
                past_key_values=cache,
                use_cache=use_cache,
                logits_to_keep=logits_to_keep,
            )
            for model, cache in zip(
                (self.base, self.reinforced), past_key_values or (None, None), strict=True
            )
        ]
        ours, theirs = (each.logits for each in found)
        caches: Any = tuple(each.past_key_values for each in found) if use_cache else None
        return CausalLMOutputWithPast(
            logits=combined_logits(ours, theirs, self.alpha), past_key_values=caches
        )
