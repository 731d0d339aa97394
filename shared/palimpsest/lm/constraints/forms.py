"""The forms that a text may be asked to have, as llguidance's grammars."""

import json
import re
from dataclasses import dataclass
from typing import Any, Literal

from palimpsest import json_input
from palimpsest.errors import InvalidArgument, Reason

LARGEST_FORM = 1 << 20
"""Maximum length of a schema, an expression or a grammar, in bytes."""
_SPACE = r"[\x20\x0A]{0,16}"
"""White space between the parts of a JSON text. It is bounded: small models fill whole answers with it."""
_SPECIAL = re.compile(r"[\\.+*?()|\[\]{}^$#&\-~/]")

_LONGEST_PROBLEM = 500
"""Most characters of a library's message that reach the caller."""

Kind = Literal["json_schema", "regex", "grammar", "choice"]


@dataclass(frozen=True)
class Form:
    """What a text must be.

    Parameters
    ----------
    kind
        How it is said.
    texts
        The schema, expression or grammar; of a choice, the texts to choose from.
    """

    kind: Kind
    texts: tuple[str, ...]

    def grammar(self) -> str:
        """The grammar in llguidance's notation; whether it can be honoured shows when it is compiled.

        Raises
        ------
        InvalidArgument
            STRUCTURED_INVALID: empty, too long, or a schema that is not JSON.
        """
        from llguidance import LLMatcher

        size = sum(len(text.encode("utf-8", "surrogatepass")) for text in self.texts)
        if not size or size > LARGEST_FORM:
            raise refused(self.kind, f"it has {size} bytes; 1 to {LARGEST_FORM} are allowed.")
        match self.kind:
            case "json_schema":
                overrides: Any = {"lenient": False, "whitespace_pattern": _SPACE, "coerce_one_of": False}
                return LLMatcher.grammar_from_json_schema(
                    json.dumps(_schema(self.texts[0])), overrides=overrides
                )
            case "regex":
                return LLMatcher.grammar_from_regex(self.texts[0])
            case "grammar":
                return LLMatcher.grammar_from_lark(self.texts[0])
            case "choice":
                literal = "|".join(_SPECIAL.sub(r"\\\g<0>", text) for text in self.texts)
                return LLMatcher.grammar_from_regex(f"({literal})")

    def check(self) -> None:
        """Check that it is well formed and within what can be honoured, before there is a model to compile it for.

        Raises
        ------
        InvalidArgument
            STRUCTURED_INVALID.
        """
        from llguidance import LLMatcher

        if problem := LLMatcher.validate_grammar(self.grammar()):
            raise refused(self.kind, problem)


def refused(kind: str, problem: str) -> InvalidArgument:
    """The error for a form that cannot be honoured."""
    problem = problem.strip()
    if len(problem) > _LONGEST_PROBLEM:
        problem = problem[:_LONGEST_PROBLEM] + "..."
    return InvalidArgument.field(
        Reason.STRUCTURED_INVALID, f"structured.{kind}", f"The {kind} cannot be honoured: {problem}"
    )


def _schema(text: str) -> dict[str, Any]:
    """A schema as an object.

    ``true`` allows everything and ``false`` nothing, as in JSON Schema.
    """
    try:
        value = json_input.decode(text, max_bytes=LARGEST_FORM)
    except json_input.InvalidJson as error:
        raise refused("json_schema", f"it is not usable JSON: {error}.") from None
    if value is True:
        return {}
    if value is False:
        raise refused("json_schema", "the schema false allows no value at all.")
    if not isinstance(value, dict):
        raise refused("json_schema", "a schema is an object, true or false.")
    return value
