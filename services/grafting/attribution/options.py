"""What a sweep does besides its cells, as asked."""

from typing import NamedTuple

from palimpsest.api.grafting.v1 import grafting_pb2 as pb
from palimpsest.errors import InvalidArgument, Reason

_TOP, _RANDOM, _THRESHOLD = 20, 10, 0.9


class Preview(NamedTuple):
    """How cells are estimated, and which estimates are checked; as of the contract's PreviewOptions."""

    top: int
    random: int
    seed: int
    steps: int
    own_layer: bool
    drops: int


class Options(NamedTuple):
    """What a sweep does.

    Attributes
    ----------
    preview
        None: nothing is estimated.
    everything
        Every cell is grafted.
    threshold
        Recovery from which a set is enough; None: none is looked for.
    """

    preview: Preview | None
    everything: bool
    threshold: float | None


def options_of(request: pb.SweepGraftsRequest) -> Options:
    """Read and check what does not depend on the models.

    Raises
    ------
    InvalidArgument
        INVALID_REQUEST: options contradict each other.
    """
    estimates = request.mode in (pb.SWEEP_MODE_PREVIEW, pb.SWEEP_MODE_BOTH)
    asked = request.preview
    if request.HasField("preview") and not estimates:
        raise _contradiction(
            "preview", "This mode estimates nothing. Set it to PREVIEW or BOTH, or leave preview out."
        )
    if estimates and request.axes.subsets:
        raise _contradiction(
            "mode", "Subsets share what they have in common and are not estimated. Use mode EXACT."
        )
    if asked.steps and (asked.own_layer or asked.drops):
        raise _contradiction(
            "preview.steps",
            "own_layer and drops correct slopes at the base, and steps are elsewhere. Set one or the other.",
        )
    preview = Preview(
        asked.verify_top or _TOP,
        asked.verify_random or _RANDOM,
        asked.seed,
        asked.steps,
        asked.own_layer,
        asked.drops,
    )
    return Options(
        preview if estimates else None,
        request.mode != pb.SWEEP_MODE_PREVIEW,
        (request.sufficient.threshold or _THRESHOLD) if request.HasField("sufficient") else None,
    )


def _contradiction(field: str, message: str) -> InvalidArgument:
    return InvalidArgument.field(Reason.INVALID_REQUEST, field, message)
