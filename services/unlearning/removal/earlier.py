"""Earlier requests measured again: what they removed may come back when the model is trained once more."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from palimpsest.api.unlearning.v1 import unlearning_pb2 as pb
from palimpsest.artifacts import ArtifactStore, ArtifactView
from palimpsest.errors import DataLoss, InvalidArgument, NotFound
from palimpsest.progress import Progress
from services.unlearning.metrics.scores import Score
from services.unlearning.removal.datasets.sets import read_set
from services.unlearning.removal.measuring import Items, measure, rechecked_items, rechecked_values
from services.unlearning.requests.records import RemovalRecord

MOST_EARLIER = 8
"""Earlier requests that a run measures again: the newest of those whose data sets are still there."""
RISE = 10.0
"""Points by which a metric rises where data has come back."""
DELETED, UNREADABLE, TOO_MANY, UNKNOWN = (
    "data_set_deleted",
    "data_set_unreadable",
    "too_many",
    "not_measured_then",
)
"""Why an earlier request is not measured."""


@dataclass(frozen=True)
class EarlierRequests:
    """The requests that led to the model before, as a run looks at them again.

    Attributes
    ----------
    requests
        Newest first.
    artifacts, principal
        Where their data sets are, and who may read them.
    context_length
        Of the models.
    """

    requests: Sequence[RemovalRecord]
    artifacts: ArtifactStore
    principal: str
    context_length: int

    def measured(
        self,
        module: nn.Module,
        tokenizer: Any,
        progress: Progress,
        kept: Callable[[str], Mapping[str, float] | None],
        keep: Callable[[str, Mapping[str, float]], None],
    ) -> list[pb.EarlierRequest]:
        """Measure a model by the forget sets of earlier requests, on the items of which their values are known.

        Parameters
        ----------
        module, tokenizer
            The new model.
        progress
            Told of each request.
        kept, keep
            Return what an earlier attempt found for a request, by its id, as values by metric; keep it for a later one.

        Raises
        ------
        FailedPrecondition
            METRIC_NOT_FINITE: the model puts out NaN.
        """
        found: list[pb.EarlierRequest] = []
        measured = 0
        for number, record in enumerate(self.requests):
            progress.step(number, len(self.requests), "measuring earlier requests again")
            then = list(record.message.result.recheck)
            skipped = TOO_MANY if measured == MOST_EARLIER else "" if then else UNKNOWN
            items = None if skipped else self._items(record, tokenizer)
            if isinstance(items, Items):
                measured += 1
                values = kept(record.id)
                if values is None:
                    scores = measure(module, tokenizer, items, progress, intervals=False)
                    values = {score.metric: score.value for score in scores}
                    keep(record.id, values)
                found += [_compared(record, each, values.get(each.metric)) for each in then]
            else:
                found += _left_out(record, then, skipped or str(items))
        return found

    def _items(self, record: RemovalRecord, tokenizer: Any) -> Items | str:
        """What a request's data is looked for by, or why it cannot be."""
        digest = record.message.plan.forget
        try:
            ArtifactView(self.artifacts, self.principal).stat(digest)
            source = read_set(self.artifacts, digest, "forget")
        except NotFound:
            return DELETED
        except (InvalidArgument, DataLoss):
            return UNREADABLE  # the limits have changed, or its bytes: the matter of that request
        if record.message.plan.HasField("search"):
            source = source.half("certify")  # the one that it was measured on
        return rechecked_items(source, tokenizer, self.context_length)


def baseline(after: Sequence[Score]) -> list[pb.Measurement]:
    """Values of a new model on the items that later requests measure again."""
    found = []
    for score in after:
        values = rechecked_values(score)
        if values.size:
            found.append(
                pb.Measurement(
                    metric=score.metric,
                    model="after",
                    value=float(values.mean()),
                    unit=score.definition.unit,
                    count=len(values),
                    convention=score.convention,
                )
            )
    return found


def _compared(record: RemovalRecord, then: pb.Measurement, now: float | None) -> pb.EarlierRequest:
    found = _entry(record, then)
    if now is None:
        found.skipped = UNREADABLE
        return found
    found.now, found.items = now, then.count
    found.reemerged = now - then.value > RISE
    return found


def _left_out(record: RemovalRecord, then: Sequence[pb.Measurement], skipped: str) -> list[pb.EarlierRequest]:
    found = [_entry(record, each) for each in then] or [pb.EarlierRequest(name=record.message.name)]
    for each in found:
        each.skipped = skipped
    return found


def _entry(record: RemovalRecord, then: pb.Measurement) -> pb.EarlierRequest:
    return pb.EarlierRequest(name=record.message.name, metric=then.metric, then=then.value)
