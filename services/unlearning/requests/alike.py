"""Which requests can be trained in one run: those of a caller that ask for the same but for what is forgotten."""

from palimpsest.api.unlearning.v1 import unlearning_pb2 as pb
from services.unlearning.requests.line import Line
from services.unlearning.requests.records import RemovalRecord
from services.unlearning.requests.settling import Settler
from services.unlearning.requests.states import seen

MOST_TOGETHER = 8
"""Requests of one run: as many as a later request measures again, so that none of them is lost from sight."""
OWN = ("forget", "new_model", "corpora", "ngram_stores", "contexts", "delete_forget_set")
"""Fields of a plan that have no part in training, but for the forget set, of which the run takes the union."""
_WAITING = (pb.REMOVAL_STATE_QUEUED, pb.REMOVAL_STATE_RUNNING)


def alike(one: pb.RemovalPlan, other: pb.RemovalPlan) -> bool:
    """Whether two plans may be trained in one run: both allow it, and they are the same but for ``OWN``."""
    return one.coalesce and other.coalesce and _shared(one) == _shared(other)


def waiting(
    settler: Settler, line: Line, principal: str, removal_id: str, plan: pb.RemovalPlan
) -> list[RemovalRecord]:
    """Return a principal's requests that wait behind one and are alike, in the order of the line.

    One that is part of a run already is left out: of two it would be of no use to the second. One whose job has an
    attempt at this moment waits all the same, as that finds the first of the line before it.

    Parameters
    ----------
    settler, line
        Where to look.
    principal, removal_id
        The request that they wait behind; for one that is not in the line, all of it.
    plan
        What they are to be like.
    """
    found = []
    for other, other_id in line.behind(principal, removal_id):
        each = settler.requests.find(principal, other_id) if other == principal else None
        if each is None or each.message.HasField("shared_run") or not alike(plan, each.message.plan):
            continue
        if seen(each, settler.job(each)).message.state in _WAITING:
            found.append(each)
    return found


def _shared(plan: pb.RemovalPlan) -> bytes:
    copy = pb.RemovalPlan()
    copy.CopyFrom(plan)
    for field in OWN:
        copy.ClearField(field)  # type: ignore[arg-type]
    return copy.SerializeToString(deterministic=True)
