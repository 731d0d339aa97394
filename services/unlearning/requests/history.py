"""Which earlier requests led to a model: those that made it, or made what it was made from."""

from collections.abc import Iterable
from dataclasses import dataclass

from palimpsest.models import ModelCatalogue, ModelRecord
from services.unlearning.requests.records import RemovalCatalogue, RemovalRecord


@dataclass(frozen=True)
class Past:
    """A principal's earlier requests, as one model sees them.

    Attributes
    ----------
    requests
        Those that led to it, newest first.
    others
        How many succeeded on models of its lineage and did not lead to it.
    """

    requests: tuple[RemovalRecord, ...] = ()
    others: int = 0


def past_of(
    requests: RemovalCatalogue, principal: str, models: ModelCatalogue, begun_with: Iterable[ModelRecord]
) -> Past:
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
    begun_with
        The model of a plan, and the one whose weights a run begins with if that is another.
    """
    lineages: set[str] = set()
    waiting: list[str] = []
    for model in begun_with:
        line = [model, *models.lineage(model.model_id).ancestors]
        lineages.add(line[-1].fingerprint)
        waiting += [each.fingerprint for each in line]
    succeeded = requests.succeeded(principal)
    made = {_made(record): record for record in succeeded}  # of those that made the same weights, the newest
    made.pop("", None)  # of one that diverged
    found: dict[str, RemovalRecord] = {}
    while waiting:
        fingerprint = waiting.pop()
        if fingerprint in made and fingerprint not in found:
            found[fingerprint] = made[fingerprint]
            waiting.append(made[fingerprint].message.result.model_fingerprint)
    others = sum(record.lineage in lineages and _made(record) not in found for record in succeeded)
    order = [record.id for record in succeeded]
    return Past(tuple(sorted(found.values(), key=lambda each: -order.index(each.id))), others)


def _made(record: RemovalRecord) -> str:
    return record.message.result.new_model_fingerprint
