"""The words for what a request tells: verdicts, metrics, states."""

from typing import Any, NamedTuple

from palimpsest.api.unlearning.v1 import unlearning_pb2 as pb


class Meaning(NamedTuple):
    """A verdict for readers: a mark beside the word, for colour alone tells some readers nothing, and a sentence."""

    mark: str
    sentence: str


VERDICTS = {
    "removed": Meaning("✓", "By every criterion it is like the models that never knew."),
    "partly_removed": Meaning(
        "◐", "It is nearer to the models that never knew, but not like them; or an attack brings it back."
    ),
    "not_removed": Meaning("✗", "It is nearer to the model before."),
    "over_unlearned": Meaning(
        "‼", "It is beyond the models that never knew: what was removed stands out by being unlikely."
    ),
    "utility_lost": Meaning("▼", "Less is left of what was to be kept than in what it is compared with."),
    "utility_kept": Meaning("✓", "What was to be kept is kept."),
    "undecided": Meaning("?", "There is nothing to compare with, or the comparison tells nothing."),
    "diverged": Meaning("✗", "A loss was no longer finite. No model was made."),
}

COMPARED = {
    "retrained": "models trained without the forget set",
    "holdout_calibrated": "texts that were never trained on, by which membership should be a matter of chance; "
    "what is to be kept is compared with the model before",
    "none": "nothing: the request names neither references nor a holdout set",
}


class Metric(NamedTuple):
    """A metric for readers.

    Attributes
    ----------
    label
        Its name in words.
    unit
        Behind its values.
    says
        What it is, and which way it points.
    scale
        Ends of its axis; None: those of its values.
    kept
        Whether it is of what is to be kept.
    """

    label: str
    unit: str
    says: str
    scale: tuple[float, float] | None = None
    kept: bool = False


METRICS = {
    "verbmem": Metric(
        "Verbatim memory", "%", "ROUGE-L of how the model continues forgotten documents. Higher: more is known.",
        (0.0, 100.0),
    ),
    "knowmem": Metric(
        "Knowledge memory", "%", "ROUGE-L of answers about what is forgotten. Higher: more is known.",
        (0.0, 100.0),
    ),
    "auc_min_k": Metric(
        "Membership AUC", "", "Below the target what is forgotten looks familiar, above it it stands out.",
        (0.0, 1.0),
    ),
    "privleak": Metric(
        "Privacy leakage", "%", "Distance of the membership AUC from a reference's. Below 0 what is forgotten looks "
        "familiar, above 0 it stands out.",
    ),
    "utility": Metric(
        "Utility", "%", "ROUGE-L of answers about what is to be kept. Higher is better.", (0.0, 100.0), True
    ),
    "perplexity": Metric(
        "Perplexity", "", "Of documents that are to be kept. Lower is more fluent.", None, True
    ),
}  # fmt: skip


def metric_named(name: str) -> Metric:
    """A metric's words; its own name for one that has none here."""
    return METRICS.get(name) or Metric(name.replace("_", " "), "", "")


def verdict_word(number: Any) -> str:
    """A verdict as people write it: ``partly_removed``; empty for none."""
    return pb.Verdict.Name(number).removeprefix("VERDICT_").lower() if number else ""


def state_word(request: pb.RemovalRequest) -> str:
    """A request's state as people write it."""
    return pb.RemovalState.Name(request.state).removeprefix("REMOVAL_STATE_").lower()


def number(value: float) -> str:
    """A number with as many digits as a reader needs."""
    return f"{value:.1f}" if 10 <= abs(value) < 1e5 else f"{value:.3g}"
