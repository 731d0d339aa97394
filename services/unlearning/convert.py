"""Conversion between the contract's messages and the room's own classes."""

from palimpsest.api.unlearning.v1 import unlearning_pb2 as pb
from services.unlearning.removal.earlier import MOST_EARLIER
from services.unlearning.removal.plan import ResolvedPlan
from services.unlearning.removal.reporting import lengths_message, set_message
from services.unlearning.removal.searching import trial_steps
from services.unlearning.requests.budget import budget_of, lost
from services.unlearning.requests.history import Predecessors

_OVERLAPS = 1000
_FLOPS = 6
"""Floating-point operations of a forward pass and its gradient, for each weight and token."""


def preview_message(
    plan: ResolvedPlan, stores: list[pb.StoreReach], ahead: int, alike: int, past: Predecessors
) -> pb.RemovalPreview:
    """What a request would do.

    Parameters
    ----------
    plan
        Resolved.
    stores
        What it reaches.
    ahead
        Requests before it in the line.
    alike
        Those among them that it could be trained with.
    past
        Requests that led to its model.
    """
    sets = {field: set_message(plan.sets.get(field)) for field in ("forget", "retain", "holdout", "utility")}
    tokens = training_tokens(plan)
    return pb.RemovalPreview(
        **sets,
        overlaps=[pb.Overlap(forget=f, retain=r, share=share) for f, r, share in plan.overlaps[:_OVERLAPS]],
        overlap_count=len(plan.overlaps),
        holdout_overlaps=[
            pb.HoldoutOverlap(holdout=each.holdout, set=each.set, other=each.other, share=each.share)
            for each in plan.seen[:_OVERLAPS]
        ],
        holdout_overlap_count=len(plan.seen),
        lengths=lengths_message(plan),
        stores=stores,
        ahead=ahead,
        alike=alike,
        steps=plan.recipe.steps,
        training_tokens=tokens,
        training_flops=float(_FLOPS * plan.begun_with.parameter_count * tokens),
        model_bytes=4 * plan.begun_with.parameter_count,
        parameters=plan.chosen_parameters(),
        earlier_requests=min(len(past.requests), MOST_EARLIER),
        total_utility_loss=lost(past),
        utility_budget=budget_of(plan.plan, past),
        trials=len(trial_steps(plan)),
        attacks=plan.attacks.names,
    )


def training_tokens(plan: ResolvedPlan) -> int:
    """Tokens that training and a search read: of each step a batch of the forget set, and of the retain set if used."""
    used = {"forget", "retain"} & plan.algorithm.needs(plan.parameters)
    total = 0.0
    for field in sorted(used):
        examples = plan.sets[field].examples
        mean = sum(len(example.ids) for example in examples) / len(examples)
        total += mean * min(plan.recipe.batch, len(examples))
    return round(total * (plan.recipe.steps + sum(trial_steps(plan))))


def listed(message: pb.RemovalRequest) -> pb.RemovalRequest:
    """A request as lists have it: without what may be long."""
    short = pb.RemovalRequest()
    short.CopyFrom(message)
    for field in ("measurements", "attacks", "stores", "criteria", "earlier_requests", "recheck", "trials"):
        short.result.ClearField(field)  # type: ignore[arg-type]
    if not message.HasField("result"):
        short.ClearField("result")
    for field in ("corpora", "ngram_stores", "contexts"):
        short.plan.ClearField(field)  # type: ignore[arg-type]
    return short
