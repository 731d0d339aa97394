"""Layers and components by name, checked against an architecture."""

from collections.abc import Sequence

from palimpsest.errors import InvalidArgument, Reason
from services.grafting.engine.configurations import COMPONENTS, LAYER_COMPONENTS

GROUPS: dict[str, tuple[str, ...]] = {
    "attention": ("q", "k", "v"),
    "ffn": ("gate", "up", "down"),
    "norms": ("attention_norm", "mlp_norm"),
    "layer": LAYER_COMPONENTS,
    "all": COMPONENTS,
}
"""Names that stand for several components; of one that an architecture lacks, the others are meant."""


def components_of(names: Sequence[str], has_gate: bool, field: str = "components") -> tuple[str, ...]:
    """Return the components that names stand for, in the order in which a token meets them; none for ``layer``.

    Parameters
    ----------
    names
        Components and groups.
    has_gate
        Whether the architecture has a ``gate``.
    field
        Where errors say the names are.

    Raises
    ------
    InvalidArgument
        COMPONENT_OUT_OF_RANGE.
    """
    there = [name for name in COMPONENTS if has_gate or name != "gate"]
    found: set[str] = set()
    for at, name in enumerate(names or ("layer",)):
        if name not in GROUPS and name not in there:
            raise InvalidArgument.field(
                Reason.COMPONENT_OUT_OF_RANGE,
                f"{field}[{at}]",
                f"{name!r} is no component of this architecture; there are {', '.join(there)}, and the groups "
                f"{', '.join(GROUPS)}.",
                component=name,
            )
        found.update(GROUPS.get(name, (name,)))
    return tuple(name for name in there if name in found)


def layers_of(first: int, stop: int, layers: int, field: str = "layers") -> range:
    """Return a window of layers, [first, stop); stop 0 is the end.

    Raises
    ------
    InvalidArgument
        LAYER_OUT_OF_RANGE.
    """
    end = stop or layers
    if not 0 <= first < end <= layers:
        raise InvalidArgument.field(
            Reason.LAYER_OUT_OF_RANGE,
            field,
            f"There are {layers} layers, 0 to {layers - 1}, so there is no window from {first} to before {end}.",
            layers=layers,
        )
    return range(first, end)


def windows_of(size: int, stride: int, layers: int, field: str = "axes.layers") -> list[range]:
    """Return windows of ``size`` layers every ``stride``; 0 for 1 and for the size. The last one may be shorter.

    Raises
    ------
    InvalidArgument
        LAYER_OUT_OF_RANGE: a window has more layers than the model.
    """
    size = size or 1
    if size > layers:
        raise InvalidArgument.field(
            Reason.LAYER_OUT_OF_RANGE,
            field,
            f"A window of {size} layers does not fit into {layers}.",
            layers=layers,
        )
    return [range(first, min(first + size, layers)) for first in range(0, layers, stride or size)]


def require_untied(components: Sequence[str], tied: bool, untie: bool, field: str = "components") -> None:
    """Refuse embedding or head alone where they are one matrix, unless the caller wants them apart.

    Raises
    ------
    InvalidArgument
        TIED_WEIGHTS_AMBIGUOUS.
    """
    named = [name for name in ("embedding", "head") if name in components]
    if tied and len(named) == 1 and not untie:
        raise InvalidArgument.field(
            Reason.TIED_WEIGHTS_AMBIGUOUS,
            field,
            f"Embedding and head are one matrix in these models, and only the {named[0]} is selected. Select both, or "
            "set untie: then the donor's matrix acts in this place alone.",
            component=named[0],
        )
