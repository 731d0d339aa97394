"""Another continuation beside the target: was an old answer removed, or only hidden?

Where target and contrast are read after the same tokens (both of one token, say), one pass tells both. Otherwise the
contrast has passes of its own.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from palimpsest.api.grafting.v1 import grafting_pb2 as pb
from services.grafting.attribution.results import Key, key_of
from services.grafting.attribution.works import Work
from services.grafting.convert import reading_message
from services.grafting.engine import Configuration, Grafter
from services.grafting.readings import Reader, Reading
from services.grafting.runs import Case, Passes, PromptRun, batches, needs_pass
from services.grafting.sweeps import Cell

Check = Callable[[], None]


class _BothReader(Reader):
    """Reads two continuations of every pass, and keeps what it has read of the second."""

    def __init__(
        self, target: tuple[int, ...], contrast: tuple[int, ...], base: torch.Tensor, donor: torch.Tensor
    ) -> None:
        self.contrast = Reader(contrast, base, donor)
        self.taken: list[Reading] = []
        super().__init__(target, base, donor)
        self.taken.clear()

    def read(self, logits: torch.Tensor) -> Reading:
        """Read a pass: [outputs, vocabulary]."""
        self.taken.append(self.contrast.read(logits))
        return super().read(logits)


class ContrastedRun(PromptRun):
    """As a run of one prompt, whose grafts are read for a contrast too.

    Parameters
    ----------
    grafter, case, passes
        As of :class:`PromptRun`.
    contrast
        The same prompt with the contrast in place of the target.
    """

    def __init__(self, grafter: Grafter, case: Case, contrast: Case, passes: Passes | None = None) -> None:
        self._contrast = contrast
        super().__init__(grafter, case, passes)
        self._other = PromptRun(grafter, contrast) if needs_pass(case, contrast) else None

    def _reader(self, base: torch.Tensor, donor: torch.Tensor) -> Reader:
        if needs_pass(self.case, self._contrast):
            return super()._reader(base, donor)
        return _BothReader(self.case.target, self._contrast.target, base, donor)

    @property
    def own(self) -> Reader:
        """The reader of the contrast, with both models' own readings of it."""
        if self._other is not None:
            return self._other.reader
        assert isinstance(self.reader, _BothReader)
        return self.reader.contrast

    def begin(self) -> None:
        """Forget what has been read so far."""
        if isinstance(self.reader, _BothReader):
            self.reader.taken.clear()

    def add_to(
        self, piece: pb.SweptCells, work: Work, cells: Mapping[Key, Cell], tokenizer: Any, check: Check
    ) -> None:
        """Write readings of the contrast into a piece whose target has just been read, since :meth:`begin`.

        Parameters
        ----------
        piece
            Of a sweep, with readings of the target.
        work
            What made it.
        cells
            The case's, by what names them; none where the work grafts all subsets at once.
        tokenizer
            Writes tokens.
        check
            Called before each layer.
        """
        own, mine = self.own, self.reader
        piece.contrast.CopyFrom(
            pb.Contrast(
                base=reading_message(own.base, tokenizer),
                donor=reading_message(own.donor, tokenizer),
                base_margin=mine.base.logprob - own.base.logprob,
                donor_margin=mine.donor.logprob - own.donor.logprob,
            )
        )
        if self._other is not None and not cells:
            found = [cell.reading for cell in work.make(self._other, check).cells]
        else:
            configurations = [cells[key_of(cell)].configuration for cell in piece.cells if self._other]
            found = [reading_message(each, tokenizer) for each in self._readings(configurations, check)]
        for cell, reading in zip(piece.cells, found, strict=True):
            cell.contrast.reading.CopyFrom(reading)
            cell.contrast.margin = cell.reading.logprob - reading.logprob

    def _readings(self, configurations: Sequence[Configuration], check: Check) -> list[Reading]:
        if self._other is None:
            assert isinstance(self.reader, _BothReader)
            return self.reader.taken
        found = [self._other.reader.base] * len(configurations)
        for batch in batches(self._contrast, configurations, self._grafter.architecture.layers):
            readings = self._other.read(batch.plans, batch.source, check)
            for number, reading in zip(batch.numbers, readings, strict=True):
                found[number] = reading
        return found
