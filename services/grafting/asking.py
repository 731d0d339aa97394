"""What callers ask for, looked up in a prompt and checked against an architecture."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from palimpsest.errors import InvalidArgument, Reason
from services.grafting.chats import Message
from services.grafting.engine.configurations import Configuration, Patch
from services.grafting.pairs import Facts
from services.grafting.positions import Prompt, Selection, positions_of, read_chat, read_prompt
from services.grafting.readings import target_ids
from services.grafting.runs import Case, require_fits
from services.grafting.selecting import components_of, layers_of, require_untied
from services.grafting.sources import Numbering, Source, require_in_pair


class AskedCase(NamedTuple):
    """A prompt or a chat and its target, as texts, and perhaps another continuation that is read too."""

    prompt: str
    target: str
    continue_grafted: bool = True
    contrast: str = ""
    chat: tuple[Message, ...] = ()


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

    @property
    def donor(self) -> Source:
        """What is grafted."""
        return Source(self.source, self.weight)


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
        As :func:`read_text`; TARGET_EMPTY, PROMPT_TOO_LONG.
    """
    prompt = read_text(tokenizer, asked.prompt, asked.chat, f"{field}.")
    target = target_ids(tokenizer, asked.target, f"{field}.target")
    case = Case(prompt.ids, target, asked.continue_grafted)
    require_fits(case, facts.context, f"{field}.prompt")
    return prompt, case


def read_text(tokenizer: Any, prompt: str, chat: Sequence[Message], place: str = "") -> Prompt:
    """Tokenize a prompt, or a chat in its place; ``place`` is where errors say both are.

    Raises
    ------
    InvalidArgument
        PROMPT_EMPTY, NO_CHAT_TEMPLATE, CHAT_INVALID; INVALID_REQUEST: there are both.
    """
    if not chat:
        return read_prompt(tokenizer, prompt, f"{place}prompt")
    if prompt:
        raise InvalidArgument.field(
            Reason.INVALID_REQUEST, f"{place}chat", "There are a prompt and a chat. Send one of them."
        )
    return read_chat(tokenizer, chat, f"{place}chat")


def read_contrast(
    asked: AskedCase, case: Case, tokenizer: Any, facts: Facts, field: str = "case"
) -> Case | None:
    """Tokenize a case with its contrast in place of its target; None without a contrast.

    Raises
    ------
    InvalidArgument
        TARGET_EMPTY, PROMPT_TOO_LONG.
    """
    if not asked.contrast:
        return None
    other = replace(case, target=target_ids(tokenizer, asked.contrast, f"{field}.contrast"))
    require_fits(other, facts.context, f"{field}.contrast")
    return other


def configuration_of(
    patches: Sequence[AskedPatch], prompt: Prompt, facts: Facts, untie: bool, others: int = 0
) -> Configuration:
    """Return the configuration that patches describe; where two overlap the later one counts.

    Its sources are numbered as :class:`Numbering` says.

    Raises
    ------
    InvalidArgument
        As :func:`positions_of`, :func:`components_of`, :func:`layers_of` and :func:`require_untied`; INVALID_REQUEST: a
        source is not in the pair, or a restored patch has a weight.
    """
    made, grafted, numbers = [], set[str](), Numbering((each.donor for each in patches), others)
    for at, each in enumerate(patches):
        field = f"patches[{at}]"
        _require_source(each, others, field)
        components = components_of(each.components, facts.has_gate, f"{field}.components")
        if not each.restore:
            grafted.update(components)
        source = 0 if each.restore else numbers.number(each.donor)
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


def _require_source(patch: AskedPatch, others: int, field: str) -> None:
    require_in_pair(patch.donor, others, field)
    if patch.restore and (patch.weight != 1.0 or patch.source):
        raise InvalidArgument.field(
            Reason.INVALID_REQUEST,
            f"{field}.restore",
            "A patch restores the base's weights, or has a source or a weight; leave one of them out.",
        )
