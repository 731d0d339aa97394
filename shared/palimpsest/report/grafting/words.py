"""The words of a sweep: tokens that can be seen, sets of components, windows of layers, readings."""

import math
import shlex
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

from palimpsest.report.grafting.table import Case, Table

_MARKS = {" ": "␣", "\n": "↵", "\t": "⇥", "\r": "␍", "\N{NO-BREAK SPACE}": "⍽"}
_GROUPS = {
    "layer": frozenset({"attention_norm", "q", "k", "v", "o", "mlp_norm", "up", "down"}),
    "attention": frozenset({"q", "k", "v"}),
    "ffn": frozenset({"up", "down"}),
    "norms": frozenset({"attention_norm", "mlp_norm"}),
}
"""What each group has in any architecture; one with a gate has it where ``up`` is."""


class Measure(NamedTuple):
    """A reading for readers.

    Attributes
    ----------
    name
        In the contract.
    label
        In words.
    says
        What it is.
    diverging
        Whether its shades have two hues that part at 0.
    """

    name: str
    label: str
    says: str
    diverging: bool = False


MEASURES = (
    Measure(
        "recovery", "Recovery", "Share of the way from the base's log-probability to the donor's: 0 as the base, 1 as "
        "the donor; below 0 the graft leads away from it.", True,
    ),
    Measure("logprob", "Log-probability", "Of the whole target, in nats."),
    Measure("probability", "Probability", "Of the whole target."),
    Measure("rank", "Rank", "Of the first target token; 1 is the most probable. The scale is logarithmic."),
    Measure("kl_base", "KL from the base", "Kullback-Leibler divergence after the prompt, in nats."),
    Measure("kl_donor", "KL from the donor", "Kullback-Leibler divergence after the prompt, in nats."),
)  # fmt: skip


ESTIMATE = Measure(
    "estimate", "Estimated change", "Of the target's log-probability, in nats, to first order.", True,
)  # fmt: skip
"""Not a reading, but shown as one where a sweep has estimates."""


CONTRASTS = (
    Measure(
        "margin", "Margin over the contrast", "The target's log-probability less the contrast's, in nats: below 0 the "
        "contrast is ahead.", True,
    ),
    Measure("contrast_logprob", "Log-probability of the contrast", "Of the whole contrast, in nats."),
)  # fmt: skip
"""Where a contrast was read."""


def measures_of(table: Table) -> tuple[Measure, ...]:
    """What a sweep's maps can show; first what most of its cells have."""
    readings = MEASURES
    if any(case.contrast for case in table.cases):
        readings += CONTRASTS
    if not any(case.estimated for case in table.cases):
        return readings
    partly = any(case.partly_exact for case in table.cases)
    return (ESTIMATE, *readings) if partly else (*readings, ESTIMATE)


def measure_named(name: str) -> Measure | None:
    """The reading of a name; None for one that is not known."""
    return next((each for each in (*MEASURES, *CONTRASTS, ESTIMATE) if each.name == name), None)


def visible(text: str) -> str:
    """A token's text with white space, and whatever else would not be seen or would move others, in signs."""
    return "".join(map(_sign, text)) or "∅"


def cut(text: str, most: int = 24) -> str:
    """A text, or its beginning if it is longer."""
    return text if len(text) <= most else text[: most - 1] + "…"


def shell_word(text: str) -> str:
    """One word of a command, in which whatever would not be seen is written out (bash, zsh and ksh read it)."""
    if not any(map(_is_hidden, text.replace(" ", ""))):
        return shlex.quote(text)
    quoted = text.replace("\\", "\\\\").replace("'", "\\'")
    return (
        "$'"
        + "".join(f"\\U{ord(each):08x}" if each != " " and _is_hidden(each) else each for each in quoted)
        + "'"
    )


def _sign(letter: str) -> str:
    if letter in _MARKS:
        return _MARKS[letter]
    return f"⟨{ord(letter):X}⟩" if _is_hidden(letter) else letter


def _is_hidden(letter: str) -> bool:
    return unicodedata.category(letter) in ("Cc", "Cf", "Cs", "Zl", "Zp", "Zs", "Co", "Cn")


def set_label(components: Sequence[str]) -> str:
    """A set of components in few words: groups where all of one is there."""
    left, found = set(components), []
    for group, members in _GROUPS.items():
        if members <= left:
            found.append(group)
            left -= members
            if "up" in members:
                left.discard("gate")
    return ", ".join(found + [name for name in components if name in left])


def layers_label(layers: tuple[int, int]) -> str:
    """A window of layers, the last one named."""
    first, stop = layers
    return str(first) if stop == first + 1 else f"{first}–{stop - 1}"


def layers_words(layers: tuple[int, int]) -> str:
    """A window of layers in a sentence."""
    first, stop = layers
    return f"layer{'s' if stop > first + 1 else ''} {layers_label(layers)}"


def row_label(case: Case, row: str) -> str:
    """What a row of the grid is: its token's text, or the name of its selection."""
    token = case.token_of(row)
    return visible(row) if token is None else visible(case.tokens[token])


def shown(value: float | None) -> str:
    """A reading's value for people; what is not set is not 0."""
    if value is None:
        return "not set"
    if math.isnan(value):
        return "not a number"
    if math.isinf(value):
        return "−∞" if value < 0 else "∞"
    text = str(value) if isinstance(value, int) else f"{value:.4g}"
    return text.replace("-", "−")
