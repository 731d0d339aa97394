"""Which earlier requests led to a model: those that made it, or made what it was made from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from palimpsest.models import ModelCatalogue, ModelRecord
from services.unlearning.requests.records import RemovalCatalogue, RemovalRecord


@dataclass(frozen=True)
class Predecessors:
    """A principal's earlier requests, as one model sees them.

    Attributes
    ----------
    requests
        Those that led to it, newest first.
    line
        Those among them that followed one another from model to model, one for each model that was made; not those that
        led to a model which another request began with beside the one that it names.
    others
        Those that succeeded on models of its lineage and did not lead to it.
    """

    requests: tuple[RemovalRecord, ...] = ()
    line: tuple[RemovalRecord, ...] = ()
    others: tuple[RemovalRecord, ...] = ()

    def others_than(self, together: Sequence[str]) -> int:
        """How many others there are, but for those named, whose forget sets a model was trained on as well."""
        return sum(each.message.name not in together for each in self.others)


def past_of(
    requests: RemovalCatalogue,
    principal: str,
    models: ModelCatalogue,
    model: ModelRecord,
    start: ModelRecord | None = None,
) -> Predecessors:
    """Find the requests of a principal that led to a model.

    They are found by fingerprints, so that a model which was copied and registered again, without its parent, keeps its
    past. Several may have made the same weights: those of one run, each with a forget set of its own, of which all
    led to the model; of several with one forget set the newest counts. In the line, where what a run has cost is added
    up, the newest stands for all of them. One that was taken back made none.

    Parameters
    ----------
    requests
        All requests.
    principal
        Whose requests are looked at: others' are nobody else's to know.
    models
        For the models' parents.
    model, start
        Of a plan.
    """
    own = _with_parents(models, model)
    begun = _with_parents(models, start) if start is not None else []
    succeeded = requests.succeeded(principal)
    newest = {
        _kept_by(record): record for record in succeeded if _made(record)
    }  # one that diverged made none
    kept = [record for record in reversed(succeeded) if newest.get(_kept_by(record)) is record]
    made: dict[str, list[RemovalRecord]] = {}  # newest first, of the models as of the requests of each
    for record in kept:
        made.setdefault(_made(record), []).append(record)
    found = _led_to([*own, *begun], made, through_starts=True)
    line = _led_to(own, made, through_starts=False)
    lineages = {each[-1] for each in (own, begun) if each}
    return Predecessors(
        tuple(record for record in kept if _made(record) in found),
        tuple(records[0] for fingerprint, records in made.items() if fingerprint in line),
        tuple(record for record in succeeded if record.lineage in lineages and _made(record) not in found),
    )


def _led_to(
    waiting: list[str], made: Mapping[str, Sequence[RemovalRecord]], *, through_starts: bool
) -> set[str]:
    """Fingerprints of the models that requests made on the way to some."""
    waiting, found = list(waiting), set[str]()
    while waiting:
        fingerprint = waiting.pop()
        if fingerprint in made and fingerprint not in found:
            found.add(fingerprint)
            for result in (record.message.result for record in made[fingerprint]):
                waiting.append(result.model_fingerprint)
                if through_starts:
                    waiting.append(result.start_fingerprint)
    return found


def _with_parents(models: ModelCatalogue, model: ModelRecord) -> list[str]:
    return [each.fingerprint for each in (model, *models.lineage(model.model_id).ancestors)]


def _made(record: RemovalRecord) -> str:
    return record.message.result.new_model_fingerprint


def _kept_by(record: RemovalRecord) -> tuple[str, str]:
    """Of the requests that have this in common the newest counts."""
    return _made(record), record.message.plan.forget
