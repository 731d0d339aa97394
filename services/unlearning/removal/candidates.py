"""What a plan's search may choose from."""

import dataclasses
from collections.abc import Mapping

from palimpsest.api.unlearning.v1 import unlearning_pb2 as pb
from palimpsest.errors import InvalidArgument, Reason
from services.unlearning.algorithms.algorithm import TRAINED, Algorithm

WEIGHT, BETA = "alpha", "beta"
"""What algorithms call the retain term's weight, and the sharpness of the forget term."""


def require_candidates(plan: pb.RemovalPlan, chosen: Algorithm, values: Mapping[str, object]) -> None:
    """Check that a plan's algorithm takes every setting that is to be tried.

    Raises
    ------
    InvalidArgument
        SEARCH_INVALID: an algorithm without such settings, or nothing to choose from. ALGORITHM_PARAMETER_INVALID.
    """
    given = plan.search
    if chosen.kind != TRAINED or "teacher" in chosen.data:
        raise _invalid(
            f"{chosen.id!r} has no settings to search. Use an algorithm that is trained from the model."
        )
    names = {each.name for each in dataclasses.fields(chosen.parameters)} - set(chosen.fixed)
    if given.retain_weights and "retain" not in chosen.needs(chosen.parse(values)):
        raise _invalid(f"{chosen.id!r} has no retain term, and so no weight of it. Leave retain_weights out.")
    if given.betas and BETA not in names:
        raise _invalid(f"{chosen.id!r} has no beta. Leave betas out.")
    candidates = [dict.fromkeys(each) for each in (given.learning_rates, given.retain_weights, given.betas)]
    if max(map(len, candidates)) < 2:
        raise _invalid(
            "A search chooses between settings: give at least two learning rates, weights or betas."
        )
    for weight in given.retain_weights:
        chosen.parse({**values, WEIGHT: weight})
    for beta in given.betas:
        chosen.parse({**values, BETA: beta})


def _invalid(message: str) -> InvalidArgument:
    return InvalidArgument.field(Reason.SEARCH_INVALID, "plan.search", message)
