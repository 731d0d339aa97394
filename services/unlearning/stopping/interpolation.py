"""Between two checkpoints: weights mixed on the line from one to the other, and a search for the point wanted.

Membership goes from memorised to standing out within a few steps, so that no step may be at the reference. On the line
between the steps on either side of it there is such a point, and each try costs one measurement. Of an adapter the two
factors are mixed, which is not a line in the weights but leads from one checkpoint to the other as well.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from palimpsest.errors import InvalidArgument, Reason

TRIES = 8


@dataclass(frozen=True)
class Found:
    """Where a search on the line ended.

    Attributes
    ----------
    share
        Of the way from the first point (0) to the second (1), at the value nearest to the target.
    value
        The value there.
    tried
        Every share that was tried, with its value, in order.
    """

    share: float
    value: float
    tried: tuple[tuple[float, float], ...]


def bisect(
    value: Callable[[float], float],
    ends: tuple[float, float],
    target: float,
    *,
    tolerance: float = 0.0,
    tries: int = TRIES,
) -> Found:
    """Halve the line until a value is within a tolerance of the target, or the tries are used up.

    The bracket is kept whatever the curve: there is always a point between its ends where a continuous one takes the
    target's value.

    Parameters
    ----------
    value
        Measures at a share strictly between 0 and 1.
    ends
        Values at 0 and at 1, on either side of the target.
    target
        What to find.
    tolerance
        Difference that will do.
    tries
        Most calls of ``value``.

    Raises
    ------
    InvalidArgument
        BRACKET_INVALID: both ends are on the same side of the target, or not finite.
    """
    first, second = ends[0] - target, ends[1] - target
    if not first * second <= 0.0:
        message = f"The values {ends[0]:g} and {ends[1]:g} do not enclose {target:g}; take steps on either side of it."
        raise InvalidArgument(Reason.BRACKET_INVALID, message)
    known = [(0.0, ends[0]), (1.0, ends[1])]
    low, high = 0.0, 1.0
    while len(known) < tries + 2 and min(abs(each - target) for _, each in known) > tolerance:
        middle = (low + high) / 2
        known.append((middle, value(middle)))
        if (known[-1][1] - target) * first > 0.0:
            low = middle
        else:
            high = middle
    share, found = min(known, key=lambda pair: abs(pair[1] - target))
    return Found(share, found, tuple(known[2:]))


@torch.no_grad()
def mix(module: nn.Module, first: Mapping[str, Tensor], second: Mapping[str, Tensor], share: float) -> None:
    """Set parameters to ``first + share (second - first)``; at 0 and 1 they are the ends, bit for bit.

    Parameters
    ----------
    module
        Whose parameters are set.
    first, second
        Tensors by parameter name; parameters that are not named stay as they are.
    share
        Of the way.
    """
    for name, parameter in module.named_parameters():
        if name in first:
            start, end = first[name].to(parameter.device), second[name].to(parameter.device)
            parameter.copy_(torch.lerp(start, end, share))
