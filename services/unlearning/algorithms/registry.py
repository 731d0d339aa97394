"""Every algorithm by its id, and its objective."""

from collections.abc import Mapping
from typing import Any

from palimpsest.errors import InvalidArgument, Reason
from services.unlearning.algorithms import (
    ascent,
    flat,
    objective,
    preference,
    rmu,
    self_distillation,
    sharpness,
    undo,
)
from services.unlearning.algorithms.algorithm import EDITED, EXACT, SERVED, TRAINED, Algorithm, NoParameters
from services.unlearning.algorithms.cir import CirParameters
from services.unlearning.algorithms.contrast import WhpParameters
from services.unlearning.algorithms.inputs import Inputs
from services.unlearning.algorithms.objective import Combined
from services.unlearning.algorithms.parameters import Parameters
from services.unlearning.algorithms.repselect import RepSelectParameters
from services.unlearning.algorithms.task_vector import TaskVectorParameters


def algorithm(name: str) -> Algorithm:
    """Return the algorithm of an id.

    Raises
    ------
    InvalidArgument
        ALGORITHM_UNKNOWN.
    """
    if name not in ALGORITHMS:
        message = f"There is no algorithm {name!r}. There are: {', '.join(ALGORITHMS)}."
        raise InvalidArgument.field(Reason.ALGORITHM_UNKNOWN, "algorithm", message)
    return ALGORITHMS[name]


def build(name: str, values: Mapping[str, object] | None, inputs: Inputs) -> Combined:
    """Return the objective of an algorithm.

    Call it with the model as it is before the run, also when a run goes on: references are computed from it.

    Parameters
    ----------
    name
        The algorithm's id.
    values
        Hyper-parameters by name; None for the defaults.
    inputs
        The model and the data.

    Raises
    ------
    InvalidArgument
        ALGORITHM_UNKNOWN; ALGORITHM_PARAMETER_INVALID; ALGORITHM_INPUT_MISSING; ALGORITHM_NOT_TRAINED: it has no
        objective.
    """
    chosen = algorithm(name)
    parameters = chosen.parse(values)
    inputs.require(chosen.needs(parameters), name)
    if chosen.make is None:
        message = f"{name!r} changes weights in one go and trains nothing. Call {name}'s own functions."
        raise InvalidArgument.field(Reason.ALGORITHM_NOT_TRAINED, "algorithm", message)
    return chosen.make(parameters, inputs)


def _muse(name: str, forget: str, parameters: type[Parameters], make: Any) -> list[Algorithm]:
    """Return MUSE's three forms of a forget loss."""
    return [
        Algorithm(
            f"{name}{suffix}", f"{forget}{what}.", TRAINED, parameters, make, {"regulariser": regulariser}
        )
        for suffix, regulariser, what in (
            ("", "none", ", and nothing for what is to be kept"),
            ("_gdr", "gdr", ", and training on the retain set"),
            ("_klr", "klr", ", and a divergence from the model before on the retain set"),
        )
    ]


_PAIRS = frozenset({"forget", "alternatives"})

_ALL = [
    *_muse("ga", "Gradient ascent on the forget set", ascent.AscentParameters, ascent.build_ascent),
    *_muse("npo", "Negative preference optimisation", preference.NpoParameters, preference.build_npo),
    Algorithm(
        "tv",
        "Task vector: training on the forget set, walked backwards from the model.",
        EDITED,
        TaskVectorParameters,
        lambda _, inputs: objective.descent(inputs),
    ),
    Algorithm(
        "whp",
        "What a reinforced model adds is subtracted from the logits; no weight changes.",
        SERVED,
        WhpParameters,
        lambda _, inputs: objective.descent(inputs),
    ),
    Algorithm(
        "simnpo",
        "NPO by the likelihood of a token, without a reference.",
        TRAINED,
        preference.SimNpoParameters,
        preference.build_simnpo,
    ),
    Algorithm(
        "dpo",
        "Refusals are preferred to the answers to forget, relative to the model before.",
        TRAINED,
        preference.DpoParameters,
        preference.build_dpo,
        data=_PAIRS,
    ),
    Algorithm(
        "idk",
        "Training on refusals in place of the answers to forget.",
        TRAINED,
        preference.IdkParameters,
        preference.build_idk,
        data=_PAIRS,
    ),
    Algorithm(
        "flat",
        "A divergence between refusals and the answers to forget, without retain data.",
        TRAINED,
        flat.FlatParameters,
        flat.build_flat,
        data=_PAIRS,
    ),
    Algorithm(
        "rmu",
        "Hidden states of the forget set are steered to a random direction.",
        TRAINED,
        rmu.RmuParameters,
        rmu.build_rmu,
        data=frozenset({"forget", "retain"}),
    ),
    Algorithm(
        "undial",
        "The model learns its own distributions with the true token's logit lowered.",
        TRAINED,
        self_distillation.UndialParameters,
        self_distillation.build_undial,
        data=frozenset({"forget", "reference"}),
    ),
    Algorithm(
        "wga",
        "Gradient ascent, weighted by the probability of each token.",
        TRAINED,
        ascent.WgaParameters,
        ascent.build_wga,
    ),
    Algorithm(
        "satimp",
        "Gradient ascent, weighted by the saturation and importance of each token.",
        TRAINED,
        ascent.SatImpParameters,
        ascent.build_satimp,
    ),
    Algorithm(
        "npo_sam",
        "NPO at the worst weights nearby, so that relearning is slow.",
        TRAINED,
        sharpness.SamNpoParameters,
        sharpness.build_npo_sam,
    ),
    Algorithm(
        "undo",
        "An unlearned model is distilled into a noised copy of itself, so that relearning is slow.",
        TRAINED,
        undo.UndoParameters,
        undo.build_undo,
        data=frozenset({"retain", "teacher"}),
    ),
    Algorithm(
        "bad_teaching",
        "On the forget set the model learns from one that never saw it.",
        TRAINED,
        self_distillation.TeachingParameters,
        self_distillation.build_teaching,
        data=frozenset({"forget", "never_knew"}),
    ),
    Algorithm(
        "repselect",
        "One walk along the forget gradient without its leading principal components.",
        EDITED,
        RepSelectParameters,
        None,
    ),
    Algorithm(
        "cir",
        "Ascent on the forget set without the principal components of what is to be kept.",
        EDITED,
        CirParameters,
        None,
        data=frozenset({"forget", "retain"}),
    ),
    Algorithm(
        "retrain",
        "The model before any of the data is trained on the retain set alone: exact.",
        EXACT,
        NoParameters,
        lambda _, inputs: objective.retraining(inputs),
        data=frozenset({"retain"}),
    ),
    Algorithm(
        "shard_adapters",
        "One adapter a shard of documents; the shard's is trained again without the document: exact.",
        EXACT,
        NoParameters,
        lambda _, inputs: objective.retraining(inputs),
        data=frozenset({"retain"}),
    ),
]

ALGORITHMS: Mapping[str, Algorithm] = {each.id: each for each in _ALL}
"""Every algorithm by its id, MUSE's eight first."""
