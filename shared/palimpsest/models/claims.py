"""What a model's header claims, against the tensors that are there: asked before anything of that size is built.

Building a model without memory still makes an object for each layer, and a configuration a list of their kinds; a
number in a text file must not decide how long that takes.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from palimpsest.errors import InvalidArgument, Reason

_LAYERS = ("layer", "layers", "block_count")
_PARTS = ("experts", "expert_count", "heads", "head_count", "labels", "groups", "stages", "codebooks")
_WINDOWS = "max_"
"""Such as max_window_layers: a bound, and not a number of things."""
_DEPTH = 4


def check_claims(claims: Mapping[str, Any], shapes: Iterable[tuple[int, ...]], where: str) -> None:
    """Compare the numbers of a config.json, or of a GGUF header, with the tensors in the files.

    A layer has a tensor of its own, so there are no more layers than tensors. Experts, heads and the like have a tensor
    or a place in one, so there are no more of them than tensors or elements along the longest side of one.

    Parameters
    ----------
    claims
        Names and values; nested objects are looked through.
    shapes
        Of the tensors in the files.
    where
        The file that claims, for the message.

    Raises
    ------
    InvalidArgument
        MODEL_INVALID.
    """
    stored = list(shapes)
    longest = max((side for shape in stored for side in shape), default=0)
    _check(claims, len(stored), max(len(stored), longest), where, _DEPTH)


def _check(claims: Mapping[str, Any], tensors: int, parts: int, where: str, depth: int) -> None:
    for name, value in claims.items():
        if isinstance(value, Mapping) and depth:
            _check(value, tensors, parts, where, depth - 1)
        if not isinstance(value, int) or isinstance(value, bool) or name.startswith(_WINDOWS):
            continue
        most = tensors if name.endswith(_LAYERS) else parts if name.endswith(_PARTS) else value
        if value > most:
            raise InvalidArgument(
                Reason.MODEL_INVALID,
                f"{where} claims {name} = {value}, and the files hold {tensors} tensors, too few for that. Copy the "
                "model again, or correct the number.",
                metadata={"name": name, "tensors": tensors},
            )
