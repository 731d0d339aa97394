"""UNDO: an unlearned model is distilled into a partly noised copy of itself (Lee et al. 2025).

What an algorithm only hides stays in the weights and returns within a few steps of relearning. Noise destroys it along
with the rest, and distillation on data to be kept brings back what the unlearned model shows, not what it hides
(arXiv 2506.06278)::

    student = (1 - alpha) theta + alpha beta N        N: Xavier uniform for matrices, 0 for vectors
    loss    = mean_t KL(p_teacher || p_student)       over every token of the retain set

``alpha`` sets the price: more noise is more robust and takes longer to repair.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from palimpsest.training.order import derived_seed
from services.unlearning.algorithms.inputs import Inputs
from services.unlearning.algorithms.objective import Combined
from services.unlearning.algorithms.parameters import Parameters, number
from services.unlearning.algorithms.regularisers import divergence


@dataclass(frozen=True, kw_only=True)
class UndoParameters(Parameters):
    """Hyper-parameters of UNDO: share of noise ``alpha``, and its scale ``beta`` relative to Xavier's."""

    alpha: float = number(0.6, 0, 1)
    beta: float = number(0.1, 0, 10)


@torch.no_grad()
def add_noise(module: nn.Module, parameters: UndoParameters, seed: int) -> None:
    """Shrink a module's weights and perturb them, in place: the student that is to be distilled.

    Parameters
    ----------
    module
        The unlearned model; a copy made before is the teacher.
    parameters
        How much.
    seed
        Decides the noise, each parameter's by its place among them. Tied parameters are one.
    """
    alpha, beta = parameters.alpha, parameters.beta
    for place, weight in enumerate(module.parameters()):
        weight.mul_(1 - alpha)
        if weight.dim() < 2:
            continue
        generator = torch.Generator().manual_seed(derived_seed(seed, "noise", place))
        noise = torch.empty(weight.shape, dtype=torch.float32)
        nn.init.xavier_uniform_(noise, generator=generator)
        weight.add_(alpha * beta * noise.to(weight))


def build_undo(parameters: UndoParameters, inputs: Inputs) -> Combined:
    """Return the distillation of UNDO: of ``inputs.reference``, the unlearned teacher, into the module it trains.

    The retain set drives it. The module is to be the teacher's copy after :func:`add_noise`.
    """
    teacher = inputs.reference
    assert teacher is not None

    def distil(module: nn.Module, step: int) -> Tensor:
        batch = inputs.retain_batch(step)
        every = batch.attention.bool()
        every[:, 0] = False  # nothing precedes it
        return divergence(module, teacher, replace(batch, counted=every))

    return Combined(distil)
