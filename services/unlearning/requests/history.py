"""Which earlier requests led to a model: those that made it, or made what it was made from."""

from collections.abc import Mapping
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
        Those among them that followed one another from model to model; not those that led to a model which another
        request began with beside the one that it names.
    others
        How many succeeded on models of its lineage and did not lead to it.
    """

    requests: tuple[RemovalRecord, ...] = ()
    line: tuple[RemovalRecord, ...] = ()
    others: int = 0


def past_of(
    requests: RemovalCatalogue,
    principal: str,
    models: ModelCatalogue,
    model: ModelRecord,
    start: ModelRecord | None = None,
) -> Predecessors:
    """Find the requests of a principal that led to a model.

    They are found by fingerprints, so that a model which was copied and registered again, without its parent, keeps its
    past. Of requests that made the same weights the newest counts; one that was taken back made none.

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
    made = {_made(record): record for record in succeeded}
    made.pop("", None)  # of one that diverged
    found = _led_to([*own, *begun], made, through_starts=True)
    line = _led_to(own, made, through_starts=False)
    lineages = {each[-1] for each in (own, begun) if each}
    newest_first = [record for record in reversed(succeeded) if made.get(_made(record)) is record]
    return Predecessors(
        tuple(record for record in newest_first if _made(record) in found),
        tuple(record for record in newest_first if _made(record) in line),
        sum(record.lineage in lineages and _made(record) not in found for record in succeeded),
    )


def _led_to(waiting: list[str], made: Mapping[str, RemovalRecord], *, through_starts: bool) -> set[str]:
    """Fingerprints of the models that requests made on the way to some."""
    waiting, found = list(waiting), set[str]()
    while waiting:
        fingerprint = waiting.pop()
        if fingerprint in made and fingerprint not in found:
            found.add(fingerprint)
            result = made[fingerprint].message.result
            waiting.append(result.model_fingerprint)
            if through_starts:
                waiting.append(result.start_fingerprint)
    return found


def _with_parents(models: ModelCatalogue, model: ModelRecord) -> list[str]:
    return [each.fingerprint for each in (model, *models.lineage(model.model_id).ancestors)]


def _made(record: RemovalRecord) -> str:
    return record.message.result.new_model_fingerprint
