"""What callers ask for, looked up in a prompt and checked against an architecture."""

from collections.abc import Sequence
from typing import Any, NamedTuple

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
    """Where the donor's weights act, or with ``restore`` the base's again; ``stop`` 0 is the last layer's end."""

    selection: Selection
    first: int = 0
    stop: int = 0
    components: tuple[str, ...] = ()
    restore: bool = False


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
    patches: Sequence[AskedPatch], prompt: Prompt, facts: Facts, untie: bool
) -> Configuration:
    """Return the configuration that patches describe; where two overlap the later one counts.

    Raises
    ------
    InvalidArgument
        As :func:`positions_of`, :func:`components_of`, :func:`layers_of` and :func:`require_untied`.
    """
    made, grafted = [], set[str]()
    for at, each in enumerate(patches):
        field = f"patches[{at}]"
        components = components_of(each.components, facts.has_gate, f"{field}.components")
        if not each.restore:
            grafted.update(components)
        made.append(
            Patch(
                positions_of(each.selection, prompt, f"{field}.positions"),
                layers_of(each.first, each.stop, facts.layers, f"{field}.layers"),
                components,
                0 if each.restore else 1,
            )
        )
    require_untied(tuple(grafted), facts.tied, untie, "patches")
    return Configuration(tuple(made))
