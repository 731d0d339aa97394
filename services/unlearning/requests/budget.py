"""How much of what a model is good for its removals have cost together, and how much they may.

Each removal costs a little, and a hundred of them more than any one shows. The loss of each is that from the model
before to the model after on its own utility set; where that set is the same in all, the sum is the distance from the
model that the first of them began with.
"""

from palimpsest.api.unlearning.v1 import unlearning_pb2 as pb
from palimpsest.errors import FailedPrecondition, Reason
from services.unlearning.requests.history import Predecessors


def lost(past: Predecessors) -> float:
    """Points that the runs that led to a model have lost, each once however many requests it was for.

    One in which utility was not measured counts as none.
    """
    return sum(each.message.result.utility_loss for each in past.line)


def budget_of(plan: pb.RemovalPlan, past: Predecessors) -> float:
    """Points that a plan and the requests before it may lose together: by the plan, or the newest of them; 0: any."""
    plans = [plan, *(each.message.plan for each in past.requests)]
    return next((each.utility_budget for each in plans if each.utility_budget), 0.0)


def require_budget(plan: pb.RemovalPlan, past: Predecessors) -> None:
    """Refuse a plan where more is lost already than it allows; training again is what is then left to do.

    Raises
    ------
    FailedPrecondition
        UTILITY_BUDGET_EXHAUSTED.
    """
    budget, gone = budget_of(plan, past), lost(past)
    if not budget or gone <= budget or plan.algorithm == "retrain":
        return
    message = (
        f"The {len(past.line)} training runs of removals that led to {plan.model!r} have lost {gone:.1f} points of "
        f"utility, and {budget:g} are allowed. Train the model again from its base without the data (algorithm "
        "'retrain'), or keep the data in adapters by shard, of which one can be trained again alone; or allow more by "
        "utility_budget."
    )
    facts = {"lost": f"{gone:.4g}", "budget": f"{budget:g}", "model": plan.model}
    raise FailedPrecondition(Reason.UTILITY_BUDGET_EXHAUSTED, message, metadata=facts)
