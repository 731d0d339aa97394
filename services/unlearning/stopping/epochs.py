"""MUSE's two ways to choose an epoch after the fact. Its paper and its released code disagree, so both are here."""

from collections.abc import Sequence
from dataclasses import dataclass

from palimpsest.errors import InvalidArgument, Reason


@dataclass(frozen=True)
class EpochChoice:
    """The epoch a rule chose.

    Attributes
    ----------
    rule
        Which; to be told with every figure, as the choice decides them.
    epoch
        Counted from 1.
    fired
        Whether the rule's condition held there; False: it never did, and this is the last epoch.
    """

    rule: str
    epoch: int
    fired: bool


def forget_match(knowledge: Sequence[float], reference: float) -> EpochChoice:
    """Choose as the released code does: the first epoch that knows no more of the forget set than the retrained model.

    Parameters
    ----------
    knowledge
        KnowMem on the forget set after each epoch.
    reference
        The retrained model's.

    Raises
    ------
    InvalidArgument
        SCORES_INVALID: there are no epochs.
    """
    return _first("forget_match", [value <= reference for value in knowledge])


def utility_floor(utility: Sequence[float], reference: float, most: int = 10) -> EpochChoice:
    """Choose as the paper says (section 5.1 and appendix B.2): the first epoch whose utility is below the reference.

    Parameters
    ----------
    utility
        KnowMem on the retain set after each epoch.
    reference
        The retrained model's.
    most
        Epochs that count.

    Raises
    ------
    InvalidArgument
        SCORES_INVALID: there are no epochs.
    """
    return _first("utility_floor", [value < reference for value in utility[:most]])


def _first(rule: str, holds: Sequence[bool]) -> EpochChoice:
    if not holds:
        raise InvalidArgument(
            Reason.SCORES_INVALID, "There are no epochs to choose from; train for at least one."
        )
    if True in holds:
        return EpochChoice(rule, holds.index(True) + 1, True)
    return EpochChoice(rule, len(holds), False)
