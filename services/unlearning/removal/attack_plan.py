"""Which attacks a plan chooses, with everything they work on looked up and checked."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pydoc_data.topics import topics
from typing import Any

from palimpsest.api.unlearning.v1 import unlearning_pb2 as pb
from palimpsest.artifacts import ArtifactStore
from palimpsest.errors import InvalidArgument, Reason
from palimpsest.models import ModelCatalogue, ModelRecord
from palimpsest.training.recipe import Recipe
from services.unlearning.attacks.asking import PREFIX_SHARES
from services.unlearning.attacks.quantisation import GGUF_FORMATS, standard_schemes
from services.unlearning.attacks.sampling import SAMPLES
from services.unlearning.corpora.overlap import MOST_SHARED, find_overlaps
from services.unlearning.metrics.items import Text
from services.unlearning.removal.datasets.holdout import documents_of
from services.unlearning.removal.datasets.sets import DataSet, EncodedSet, read_set
from services.unlearning.removal.requirements import reference_of

RETAIN, PART, UNRELATED = "relearn/retain", "relearn/part", "relearn/unrelated"
LOWER_CASE, FEW_SHOT, PARAPHRASED = "questions/lower-case", "questions/few-shot", "questions/paraphrased"
PREFIX_LOWER_CASE, PREFIXES = "prefix/lower-case", {f"prefix/{share:g}": share for share in PREFIX_SHARES}
SAMPLING = "sampling"

DEFAULT = ("int8/32", "int4/32", RETAIN)
"""What a plan that names none is attacked with; the last only with a retain set."""
NAMES = (
    *dict.fromkeys([*(scheme.name for scheme in standard_schemes()), *reversed(GGUF_FORMATS)]),
    *(RETAIN, PART, UNRELATED),
    *(LOWER_CASE, FEW_SHOT, PARAPHRASED),
    *(PREFIX_LOWER_CASE, *PREFIXES),
    SAMPLING,
)
"""Every attack that a plan can name."""

LEARNING_RATE = 1e-5
"""Of attacks that train, where the plan's training is of an adapter and has a rate for that."""


@dataclass(frozen=True)
class AttackPlan:
    """The attacks of one request.

    Attributes
    ----------
    names
        In their order.
    steps
        Of those that train; 0: as many as their data makes.
    learning_rate, seed, samples
        As in the contract; all are chosen.
    unrelated
        Text that tells of neither set; None: no attack trains on it.
    never_knew
        The model whose gains are subtracted; None: there is none.
    """

    names: tuple[str, ...]
    steps: int
    learning_rate: float
    seed: int
    samples: int
    unrelated: EncodedSet | None
    never_knew: ModelRecord | None

    def facts(self) -> dict[str, Any]:
        """Settings for a certificate, beside the names."""
        return {
            "steps": self.steps,
            "learning_rate": self.learning_rate,
            "seed": self.seed,
            "samples": self.samples,
            "unrelated": self.unrelated.source.artifact if self.unrelated else "",
            "never_knew": self.never_knew.fingerprint if self.never_knew else "",
        }


def attack_plan(
    wanted: pb.Attacks,
    found: Mapping[str, DataSet],
    model: ModelRecord,
    models: ModelCatalogue,
    artifacts: ArtifactStore,
    recipe: Recipe,
    encode: Callable[[DataSet], EncodedSet],
) -> AttackPlan:
    """Look up and check what the attacks of a plan work on.

    Parameters
    ----------
    wanted
        Of the plan; empty for the default.
    found
        The plan's data sets, by field.
    model
        The model before.
    models, artifacts
        Where to look.
    recipe
        Of the plan's training, whose rate and seed are the defaults.
    encode
        Turns a data set into sequences.

    Raises
    ------
    InvalidArgument
        ATTACK_INVALID: an attack lacks what it works on. INVALID_REQUEST: there is none of that name. Others as of
        ``read_set``.
    NotFound, FailedPrecondition, DataLoss
        As of references, and of data sets.
    """
    names = tuple(wanted.names) or tuple(each for each in DEFAULT if each != RETAIN or "retain" in found)
    unknown = [name for name in names if name not in NAMES]
    if unknown:
        message = f"There is no attack {unknown[0]!r}. There are: {', '.join(NAMES)}."
        raise InvalidArgument.field(Reason.INVALID_REQUEST, "plan.attacks.names", message)
    for name in names:
        lacking = _lacking(name, found)
        if lacking:
            message = f"The attack {name!r} needs {lacking}. Give them, or leave it out."
            raise InvalidArgument.field(Reason.ATTACK_INVALID, "plan.attacks.names", message)
    if wanted.unrelated and UNRELATED not in names:
        message = f"plan.attacks.unrelated is for {UNRELATED!r}, which is not among the attacks. Name it too."
        raise InvalidArgument.field(Reason.ATTACK_INVALID, "plan.attacks.unrelated", message)
    return AttackPlan(
        names,
        wanted.steps,
        wanted.learning_rate or (LEARNING_RATE if recipe.adapter else recipe.learning_rate),
        wanted.seed or recipe.seed,
        wanted.samples or SAMPLES,
        encode(_unrelated(wanted.unrelated, found["forget"], artifacts)) if UNRELATED in names else None,
        reference_of(models, wanted.never_knew, model, "plan.attacks.never_knew")
        if wanted.never_knew
        else None,
    )


def groups_of(forget: DataSet) -> dict[str, str]:
    """Entries of a forget set by the document they are of: relearned together, or not at all."""
    names = [name for name, _, _ in forget.texts()]
    return {name: forget.about.get(name, name) for name in names}


def shots_of(found: Mapping[str, DataSet]) -> DataSet | None:
    """The set whose questions are solved examples: the utility set's, else those of the retain set."""
    return next(
        (found[field] for field in ("utility", "retain") if field in found and found[field].questions), None
    )


def _lacking(name: str, found: Mapping[str, DataSet]) -> str:
    """What an attack does not have; empty: nothing."""
    forget = found["forget"]
    if name == RETAIN and "retain" not in found:
        return "a retain set"
    if name == PART and len(set(groups_of(forget).values())) < 2:
        return "entries of at least two documents in the forget set"
    if (name in PREFIXES or name in (PREFIX_LOWER_CASE, SAMPLING)) and len(forget.documents) < 2:
        return "at least two documents in the forget set"
    if name in (LOWER_CASE, FEW_SHOT) and len(forget.questions) < 2:
        return "at least two questions in the forget set"
    if name == FEW_SHOT and shots_of(found) is None:
        return "solved questions in the utility set or the retain set"
    if name == PARAPHRASED and len(forget.paraphrases) < 2:
        return 'at least two questions with "paraphrases" in the forget set'
    return ""


def _unrelated(digest: str, forget: DataSet, artifacts: ArtifactStore) -> DataSet:
    """Text that tells nothing of the forget set: the caller's, or that of the manuals that every Python has."""
    if not digest:
        return DataSet(
            UNRELATED, "", tuple(Text(f"python-{name}", topics[name]) for name in sorted(topics)), ()
        )
    found = read_set(artifacts, digest, "attacks.unrelated")
    overlaps = find_overlaps(documents_of(forget), documents_of(found))
    shared = [each.document for each in overlaps if each.share > MOST_SHARED]
    if not found.count or shared:
        what = f"has text of the forget set ({', '.join(map(repr, shared[:5]))})" if shared else "has no line"
        message = (
            f"The data set of {UNRELATED!r} {what}. Give text that tells of nothing that is to be forgotten."
        )
        raise InvalidArgument.field(Reason.ATTACK_INVALID, "plan.attacks.unrelated", message)
    return found
