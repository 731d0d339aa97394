"""The grafting room's job: a sweep, batch by batch, each kept as soon as it is done."""

import hashlib
import time
from typing import TYPE_CHECKING, Any

from google.protobuf.json_format import MessageToDict

from palimpsest.api.grafting.v1 import grafting_pb2 as pb
from palimpsest.jobs import JobContext, handler
from palimpsest.progress import Drain

if TYPE_CHECKING:
    from services.grafting.attribution.works import Sweep

MEDIA_TYPE = "application/json"
_PIECE_TYPE = "application/x-protobuf"
FORMAT = "palimpsest.grafts/1"
_CELLS_TOLD = 100
"""Cells of a partial result, so that it stays well below 64 KiB."""


@handler("grafting.sweep", request=pb.SweepGraftsRequest, response=pb.GraftSweep, seconds=24 * 3600.0)
def sweep(request: pb.SweepGraftsRequest, job: JobContext) -> pb.GraftSweep:
    """Graft every cell, batch by batch; a later attempt skips the batches that an earlier one has finished."""
    from palimpsest.engine import worker_host
    from services.grafting.attribution.options import options_of
    from services.grafting.attribution.results import result_of
    from services.grafting.attribution.works import Sweep
    from services.grafting.convert import grid_of
    from services.grafting.pairs import PairHost, records_of
    from services.grafting.sources import grafter_of
    from services.grafting.table import table_of

    progress, models = job.progress, job.resources.models
    progress.step(0, 0, "loading the models")
    names = (request.pair.donor, *request.pair.others)
    base, donors = records_of(request.pair.base, names, models, job.resources.artifacts)
    worker_host(job).close()  # the memory is needed for these models
    pair = PairHost(job.resources.settings).load(base, donors[0], progress, donors[1:])
    grid = grid_of(request, pair.tokenizer, pair.facts)
    kept = _Kept(job, _content(request, base.fingerprint, *(each.fingerprint for each in donors)))
    resumed = kept.grafted
    grafter = grafter_of(pair, grid.axes.sources)
    whole = Sweep(grid, options_of(request), pair, grafter)
    total = whole.cells_to_graft()
    progress.step(resumed, total, "grafting")
    try:
        _finish(whole, kept, job, total)
    except Drain:
        kept.save()
        raise
    found, told = result_of(grid, whole.options, kept.pieces)
    info = job.resources.artifacts.put_bytes(table_of(grid, kept.pieces, found, pair, FORMAT), MEDIA_TYPE)
    progress.publish(info.digest)
    told.MergeFrom(
        pb.GraftSweep(
            table=info.message(),
            cells=sum(grid.count_of(number) for number in range(len(grid.prompts))),
            row_layers=grafter.row_layers,
            naive_row_layers=grid.naive_row_layers,
            resumed_cells=resumed,
            grafted_cells=kept.grafted,
        )
    )
    return told


def _finish(whole: "Sweep", kept: "_Kept", job: JobContext, total: int) -> None:
    """Make the pieces that are not kept yet."""
    from services.grafting.cases import CaseRun

    own: CaseRun | None = None
    for number, work in enumerate(whole.works(kept.pieces)):
        if number < len(kept.pieces):
            continue
        if own is None or own.case != work.case:  # cases come one after another
            own = CaseRun(whole, work.case)
        kept.add(own.make(work, job.progress.check))
        job.progress.step(kept.grafted, total)


def _content(request: pb.SweepGraftsRequest, *fingerprints: str) -> str:
    """What decides the cells: a model registered anew under its name is another one."""
    copy = pb.SweepGraftsRequest()
    copy.CopyFrom(request)
    for name in ("request_id", "skip_cache"):
        copy.ClearField(name)  # type: ignore[arg-type]
    told = (*fingerprints, repr(MessageToDict(copy)))
    return hashlib.sha256("\n".join(told).encode()).hexdigest()


class _Kept:
    """Finished batches, each an artefact of the job; which they are is noted every few seconds."""

    def __init__(self, job: JobContext, content: str) -> None:
        self._job, self._content = job, content
        state: dict[str, Any] = job.progress.resume() or {}
        self._digests = list(state.get("pieces", [])) if state.get("content") == content else []
        self.pieces = [self._read(digest) for digest in self._digests]
        self._saved_at = time.monotonic()

    @property
    def grafted(self) -> int:
        """Cells that have a reading."""
        return sum(len(piece.cells) for piece in self.pieces if not piece.preview)

    def add(self, piece: pb.SweptCells) -> None:
        """Keep a batch, and tell it to those who watch."""
        progress = self._job.progress
        info = self._job.resources.artifacts.put_bytes(
            piece.SerializeToString(deterministic=True), _PIECE_TYPE
        )
        progress.publish(info.digest)
        self._digests.append(info.digest)
        self.pieces.append(piece)
        if time.monotonic() - self._saved_at > self._job.resources.settings.checkpoint_seconds:
            self.save()
        for first in range(0, len(piece.cells), _CELLS_TOLD):
            told = pb.SweptCells(case=piece.case, base=piece.base, donor=piece.donor, preview=piece.preview)
            if piece.HasField("contrast"):
                told.contrast.CopyFrom(piece.contrast)
            told.cells.extend(piece.cells[first : first + _CELLS_TOLD])
            if first == 0 and piece.HasField("values"):
                told.values.CopyFrom(piece.values)
            progress.partial(told)
        if piece.HasField("sufficient"):
            progress.partial(piece)

    def save(self) -> None:
        """Note the batches so far."""
        self._job.progress.checkpoint({"content": self._content, "pieces": self._digests})
        self._saved_at = time.monotonic()

    def _read(self, digest: str) -> pb.SweptCells:
        return pb.SweptCells.FromString(self._job.resources.artifacts.read_bytes(digest))
