"""Fields that every request for text has, and what they are in the contract.

Limits of numbers are the contract's: the room refuses what is out of range, and names the field. Here fields are only
told apart, and what OpenAI's interface calls otherwise gets its name in the contract.
"""

from typing import Any, Literal

from pydantic import Field

from services.gateway.bodies import Body
from services.gateway.errors import bad, unsupported
from services.gateway.json_text import dumps

Json = dict[str, Any]
MOST_SEQUENCES = 64
"""Texts of one prompt; the contract's limit."""


class JsonSchemaFormat(Body):
    """A JSON Schema, as ``response_format`` wraps it."""

    name: str = ""
    description: str = ""
    schema_: Json = Field(alias="schema")
    strict: bool = True


class ResponseFormat(Body):
    """The form of a reply."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchemaFormat | None = None


class StructuredOutputs(Body):
    """The form of a text, as an extension: one of these."""

    json_: Json | None = Field(default=None, alias="json")
    regex: str | None = None
    choice: list[str] | None = None
    grammar: str | None = None


class StreamOptions(Body):
    """What a stream has besides its text."""

    include_usage: bool = False


class NoEffect(Body):
    """Fields that are taken because they change nothing of the output, wherever they are sent.

    They name the end user, label the request, or advise a cache that is shared with nobody else.
    """

    user: str | None = None
    metadata: Json | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    service_tier: Literal["auto", "default"] | None = None


class TextFields(NoEffect):
    """Fields of completions and of chats.

    ``temperature`` is 1 unless it is given, as OpenAI's is; in the contract it is 0.
    """

    model: str | None = None
    n: int = 1
    stream: bool = False
    stream_options: StreamOptions | None = None
    stop: str | list[str] | None = None
    seed: int | None = None
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: dict[str, float] | None = None
    min_tokens: int = 0
    stop_token_ids: list[int] | None = None
    bad_words: list[str] | None = None
    ignore_eos: bool = False
    response_format: ResponseFormat | None = None
    structured_outputs: StructuredOutputs | None = None
    cache_salt: str = ""
    context: str | None = None
    corpora: list[str] | None = None
    nest: Json | None = None

    def sampling(self) -> Json:
        """``SamplingConfig``; a penalty that changes nothing is left out."""
        made: Json = {
            "temperature": self.temperature,
            "top_k": 0 if self.top_k == -1 else self.top_k,
            "top_p": self.top_p or 1e-9,
            "min_p": self.min_p,
        }
        if self.seed is not None:
            made["seed"] = self.seed & (1 << 64) - 1  # a negative one is as good as any
        for name, neutral in (("repetition_penalty", 1), ("presence_penalty", 0), ("frequency_penalty", 0)):
            if getattr(self, name) != neutral:
                made[name] = getattr(self, name)
        if self.logit_bias:
            if not all(key.isascii() and key.isdigit() and len(key) < 10 for key in self.logit_bias):
                raise bad("logit_bias", 'logit_bias has to have token ids as its keys, such as {"42": -100}.')
            made["logit_bias"] = {int(key): value for key, value in self.logit_bias.items()}
        return made

    def request(self) -> Json:
        """The fields of ``GenerateRequest`` that do not depend on the endpoint.

        Raises
        ------
        ApiError
            400: fields that contradict each other.
        """
        if not 1 <= self.n <= MOST_SEQUENCES:  # before anything is made for each of them
            raise bad("n", f"n is {self.n}; it has to be from 1 to {MOST_SEQUENCES}.")
        if self.stream_options is not None and not self.stream:
            raise bad("stream_options", "stream_options goes with stream: true.")
        made: Json = {
            "sampling": self.sampling(),
            "n": self.n,
            "stop": [self.stop] if isinstance(self.stop, str) else self.stop,
            "min_tokens": self.min_tokens or None,
            "stop_token_ids": self.stop_token_ids or None,
            "bad_words": self.bad_words or None,
            "ignore_eos": self.ignore_eos,
            "structured": self.structured(),
            "cache_salt": self.cache_salt,
            "context": self.context,
        }
        if self.nest is not None and not self.corpora:
            raise bad("nest", "nest goes with corpora: it says how they are quoted.")
        if self.corpora:
            made["nest"] = {**(self.nest or {}), "corpora": self.corpora}
        return {name: value for name, value in made.items() if value is not None}

    def structured(self) -> Json | None:
        """``StructuredOutput``; None for free text."""
        form, ours = self.response_format, self.structured_outputs
        if form is not None and form.type != "text":
            if ours is not None:
                raise bad("structured_outputs", "structured_outputs and response_format exclude each other.")
            if form.type == "json_object":
                return {"json_schema": dumps({"type": "object"})}
            if form.json_schema is None:
                raise bad(
                    "response_format.json_schema", "response_format of type json_schema needs json_schema."
                )
            if not form.json_schema.strict:
                raise unsupported(
                    "response_format.json_schema.strict",
                    "A schema is always kept to here; leave strict out, or set it to true.",
                )
            return {"json_schema": dumps(form.json_schema.schema_)}
        if form is not None and form.json_schema is not None:
            raise bad("response_format.json_schema", "json_schema goes with the type json_schema.")
        if ours is None:
            return None
        given = {
            "json_schema": None if ours.json_ is None else dumps(ours.json_),
            "regex": ours.regex,
            "grammar": ours.grammar,
            "choice": None if ours.choice is None else {"texts": ours.choice},
        }
        found = {name: value for name, value in given.items() if value is not None}
        if len(found) != 1:
            raise bad(
                "structured_outputs", "structured_outputs takes exactly one of json, regex, choice, grammar."
            )
        return found
