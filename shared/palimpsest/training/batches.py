"""Sequences of token ids, and the padded batches a training step reads."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from palimpsest.errors import InvalidArgument, Reason


@dataclass(frozen=True, eq=False)
class Example:
    """One sequence.

    Attributes
    ----------
    ids
        Token ids.
    counted
        For each token, whether predicting it counts in the loss. The first never does, whatever is given: nothing
        precedes it.
    name
        Id of the document or pair that the sequence is of.
    """

    ids: tuple[int, ...]
    counted: tuple[bool, ...]
    name: str = ""

    def __post_init__(self) -> None:
        if not self.ids or len(self.ids) != len(self.counted):
            message = (
                f"An example needs ids, and a mask as long as they are; got {len(self.ids)} ids and a mask of "
                f"{len(self.counted)}."
            )
            raise InvalidArgument(Reason.TRAINING_DATA_INVALID, message)
        if self.counted[0]:
            object.__setattr__(self, "counted", (False, *self.counted[1:]))


@dataclass(frozen=True, eq=False)
class Batch:
    """Examples of one forward pass.

    Attributes
    ----------
    ids
        int64 [batch, tokens]; shorter rows are padded on the right.
    attention
        int64 [batch, tokens]: 1 where a token is, 0 on padding.
    counted
        bool [batch, tokens]: tokens that count in the loss. False on padding, whatever id pads.
    items
        int64 [batch]: the index of each row's example in its set.
    """

    ids: Tensor
    attention: Tensor
    counted: Tensor
    items: Tensor


def collate(
    examples: Sequence[Example], indices: Sequence[int], pad: int, device: torch.device | str = "cpu"
) -> Batch:
    """Return some examples of a set as a batch as wide as the longest of them.

    Parameters
    ----------
    examples
        The whole set.
    indices
        Which of them, in the order of the rows; at least one.
    pad
        Token id that fills rows up. It may be a token of the text as well: the masks tell them apart.
    device
        Where the tensors are made.

    Raises
    ------
    InvalidArgument
        TRAINING_DATA_EMPTY: there are no indices.
    """
    if not indices:
        raise InvalidArgument(Reason.TRAINING_DATA_EMPTY, "A batch needs at least one example.")
    rows = [examples[index] for index in indices]
    shape = (len(rows), max(len(row.ids) for row in rows))
    ids = torch.full(shape, pad, dtype=torch.int64)
    attention = torch.zeros(shape, dtype=torch.int64)
    counted = torch.zeros(shape, dtype=torch.bool)
    for number, row in enumerate(rows):
        ids[number, : len(row.ids)] = torch.tensor(row.ids)
        attention[number, : len(row.ids)] = 1
        counted[number, : len(row.ids)] = torch.tensor(row.counted)
    items = torch.tensor(list(indices), dtype=torch.int64)
    return Batch(ids.to(device), attention.to(device), counted.to(device), items.to(device))
