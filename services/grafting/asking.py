"""What callers ask for, looked up in a prompt and checked against an architecture."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from palimpsest.errors import InvalidArgument, Reason
from services.grafting.engine.configurations import Configuration, Patch
from services.grafting.pairs import Facts
from services.grafting.positions import Prompt, Selection, positions_of, read_prompt
from services.grafting.readings import target_ids
from services.grafting.runs import Case, require_fits
from services.grafting.selecting import components_of, layers_of, require_untied


class AskedCase(NamedTuple):
    """A prompt and its target, as texts."""

    prompt: str
    target: str
    continue_grafted: bool = True


class AskedPatch(NamedTuple):
    """Where a donor's weights act, or with ``restore`` the base's again; ``stop`` 0 is the last layer's end.

    ``source`` is 0 for the donor, and from 1 for the pair's others; of the change from the base to it, ``weight`` times
    as much acts.
    """

    selection: Selection
    first: int = 0
    stop: int = 0
    components: tuple[str, ...] = ()
    restore: bool = False
    source: int = 0
    weight: float = 1.0


def require_distinct(base: str, donor: str, others: Sequence[str] = ()) -> None:
    """Refuse a model as its own donor, and one model as two donors.

    Raises
    ------
    InvalidArgument
        INVALID_REQUEST.
    """
    if base == donor:
        raise InvalidArgument.field(
            Reason.INVALID_REQUEST, "pair.donor", "Base and donor are one model; name another as the donor."
        )
    for at, name in enumerate(others):
        if name in (base, donor, *others[:at]):
            raise InvalidArgument.field(
                Reason.INVALID_REQUEST, f"pair.others[{at}]", f"{name} is in the pair already; name it once."
            )


def read_case(asked: AskedCase, tokenizer: Any, facts: Facts, field: str = "case") -> tuple[Prompt, Case]:
    """Tokenize a case.

    Raises
    ------
    InvalidArgument
        PROMPT_EMPTY, TARGET_EMPTY, PROMPT_TOO_LONG.
    """
    prompt = read_prompt(tokenizer, asked.prompt, f"{field}.prompt")
    target = target_ids(tokenizer, asked.target, f"{field}.target")
    case = Case(prompt.ids, target, asked.continue_grafted)
    require_fits(case, facts.context, f"{field}.prompt")
    return prompt, case


def configuration_of(
    patches: Sequence[AskedPatch], prompt: Prompt, facts: Facts, untie: bool, others: int = 0
) -> Configuration:
    """Return the configuration that patches describe; where two overlap the later one counts.

    Its sources are 0 for the base, 1 for the donor, then the ``others`` of the pair, then :func:`amplified_of`.

    Raises
    ------
    InvalidArgument
        As :func:`positions_of`, :func:`components_of`, :func:`layers_of` and :func:`require_untied`; INVALID_REQUEST: a
        source is not in the pair, or a restored patch has a weight.
    """
    made, grafted, amplified = [], set[str](), amplified_of(patches)
    for at, each in enumerate(patches):
        field = f"patches[{at}]"
        _require_source(each, others, field)
        components = components_of(each.components, facts.has_gate, f"{field}.components")
        if not each.restore:
            grafted.update(components)
        source = 0 if each.restore or each.weight == 0 else 1 + each.source
        if (each.source, each.weight) in amplified:
            source = 2 + others + amplified.index((each.source, each.weight))
        made.append(
            Patch(
                positions_of(each.selection, prompt, f"{field}.positions"),
                layers_of(each.first, each.stop, facts.layers, f"{field}.layers"),
                components,
                source,
            )
        )
    require_untied(tuple(grafted), facts.tied, untie, "patches")
    return Configuration(tuple(made))


def amplified_of(patches: Sequence[AskedPatch]) -> list[tuple[int, float]]:
    """Return sources with weights that no model has itself, each once."""
    found = [(each.source, each.weight) for each in patches if each.weight not in (0.0, 1.0)]
    return list(dict.fromkeys(found))


def _require_source(patch: AskedPatch, others: int, field: str) -> None:
    if patch.source > others:
        raise InvalidArgument.field(
            Reason.INVALID_REQUEST,
            f"{field}.source",
            f"The pair has {others} others, so there is no source {patch.source}; name the model in pair.others.",
        )
    if patch.restore and (patch.weight != 1.0 or patch.source):
        raise InvalidArgument.field(
            Reason.INVALID_REQUEST,
            f"{field}.restore",
            "A patch restores the base's weights, or has a source or a weight; leave one of them out.",
        )
