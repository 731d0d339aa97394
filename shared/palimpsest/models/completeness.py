"""Whether stored tensors are a model's own: all of them, no others, and each of its shape.

transformers draws a tensor that it does not find at random, and leaves out one that it does not know. What it says of
that is compared here, so that its rules hold for what may be missing: tied matrices, buffers that are computed, names
that older versions gave.
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from palimpsest.errors import InvalidArgument, Reason
from palimpsest.model_building import building
from palimpsest.models.weights import StoredTensor

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_NAMED = 5


def require_whole(where: object, info: Mapping[str, Any], *, unread: Iterable[str] = ()) -> None:
    """Refuse weights that are not the whole of the model, or more than it.

    Parameters
    ----------
    where
        The folder or file, for the message.
    info
        What ``from_pretrained`` returns with ``output_loading_info=True``.
    unread
        Names of further tensors that were not read.

    Raises
    ------
    InvalidArgument
        MODEL_INVALID, naming the first few tensors of each kind and how many there are.
    """
    missing = sorted(info["missing_keys"])
    unexpected = sorted({*info["unexpected_keys"], *unread})
    mismatched = sorted((name, list(found), list(asked)) for name, found, asked in info["mismatched_keys"])
    shapes = [f"{name} has {found} instead of {asked}" for name, found, asked in mismatched]
    complaints = [
        f"{what}: {', '.join(names[:_NAMED])}{f' and {len(names) - _NAMED} more' * (len(names) > _NAMED)}"
        for what, names in (
            (
                _count(missing, "of the model's tensors is missing", "of the model's tensors are missing"),
                missing,
            ),
            (_count(unexpected, "is none of the model's", "are none of the model's"), unexpected),
            (_count(shapes, "has another shape", "have another shape"), shapes),
        )
        if names
    ]
    if complaints:
        raise InvalidArgument(
            Reason.MODEL_INVALID,
            f"The weights in {where} are not those of the model that its config describes. {'; '.join(complaints)}. "
            "Copy the model again, with all its files, or correct its config.",
            metadata={"missing": len(missing), "unexpected": len(unexpected), "mismatched": len(mismatched)},
        )


def _count(names: list[str], one: str, many: str) -> str:
    return f"{len(names)} {one if len(names) == 1 else many}"


def loading_info(model: "PreTrainedModel", tensors: Iterable[StoredTensor]) -> Mapping[str, Any]:
    """What transformers says of loading these tensors into a model, without reading or holding any of them.

    Parameters
    ----------
    model
        Of the architecture; its parameters are not used.
    tensors
        Those of the folder.
    """
    import torch
    from transformers.utils import logging

    logging.disable_progress_bar()
    nowhere = {each.name: torch.empty(each.shape, device="meta") for each in tensors}
    kind: Any = type(model)  # whose stubs do not know output_loading_info
    with building():
        _, info = kind.from_pretrained(
            None,
            config=model.config,
            state_dict=nowhere,
            device_map={"": "meta"},
            ignore_mismatched_sizes=True,  # counted, like the others
            output_loading_info=True,
        )
    return info
