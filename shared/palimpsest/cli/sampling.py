"""The options of text generation, shared by ``generate`` and ``batch``."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from palimpsest.api.decoding.v1 import decoding_pb2
from palimpsest.cli.models import all_models
from palimpsest.client import Client
from palimpsest.errors import NotFound, Reason

Model = Annotated[
    str,
    typer.Option(
        "--model", "-m", help="Model id. Default: the only registered model.", envvar="PALIMPSEST_MODEL"
    ),
]
Count = Annotated[int, typer.Option("-n", min=1, max=64, help="Independent sequences for each prompt.")]
MaxTokens = Annotated[int, typer.Option(min=0, help="Maximum tokens per sequence; 0 means 256.")]
Temperature = Annotated[float, typer.Option(min=0.0, help="0 is greedy.")]
TopK = Annotated[int, typer.Option(min=0, help="Keep the k most probable tokens; 0 keeps all.")]
TopP = Annotated[float | None, typer.Option(help="Keep the fewest tokens whose total probability reaches p.")]
MinP = Annotated[
    float,
    typer.Option(
        min=0.0, max=1.0, help="Keep tokens at least this fraction as probable as the most probable one."
    ),
]
Seed = Annotated[int | None, typer.Option(min=0, help="Same seed, same text. Default: random.")]
Stop = Annotated[list[str] | None, typer.Option(help="Stop before this text; repeatable.")]
Logprobs = Annotated[
    int | None,
    typer.Option(min=0, max=64, help="Report log-probabilities and this many alternatives per token."),
]

_TOKEN_ID = re.compile(r"[0-9]{1,9}")
_NUMBER = re.compile(r"[+-]?[0-9]{1,9}(\.[0-9]{0,15})?")


@dataclass(frozen=True)
class Constraints:
    """Options that penalise, forbid or demand tokens, and that say what the text must be."""

    repetition_penalty: Annotated[
        float | None, typer.Option(help="Above 1: tokens of the prompt and the text become less probable.")
    ] = None
    presence_penalty: Annotated[
        float | None, typer.Option(help="-2 to 2, subtracted from the logits of tokens that the text has.")
    ] = None
    frequency_penalty: Annotated[
        float | None, typer.Option(help="-2 to 2, subtracted once for each time that the text has a token.")
    ] = None
    logit_bias: Annotated[
        list[str] | None, typer.Option(metavar="ID=BIAS", help="Added to a token's logit; repeatable.")
    ] = None
    min_tokens: Annotated[int, typer.Option(min=0, help="The text does not end before so many tokens.")] = 0
    stop_token: Annotated[
        list[int] | None,
        typer.Option(metavar="ID", min=0, max=(1 << 32) - 1, help="Token that ends the text; repeatable."),
    ] = None
    bad_word: Annotated[
        list[str] | None, typer.Option(metavar="TEXT", help="Text that is not generated; repeatable.")
    ] = None
    json_schema: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The text is a JSON value, valid under this JSON Schema."),
    ] = None
    regex: Annotated[str, typer.Option(help="The text matches this regular expression as a whole.")] = ""
    grammar: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The text is one of this grammar, in Lark's notation.")
    ] = None
    choice: Annotated[list[str] | None, typer.Option(help="The text is one of these; repeatable.")] = None

    def fields(self) -> dict[str, Any]:
        """Fields of a request to Generate or GenerateBatch.

        Raises
        ------
        typer.BadParameter
            More than one form is given.
        """
        return {
            "min_tokens": self.min_tokens,
            "stop_token_ids": self.stop_token,
            "bad_words": self.bad_word,
            "structured": self._structured(),
        }

    def _structured(self) -> decoding_pb2.StructuredOutput | None:
        given: dict[str, Any] = {}
        if self.json_schema is not None:
            given["json_schema"] = self.json_schema.read_text()
        if self.regex:
            given["regex"] = self.regex
        if self.grammar is not None:
            given["grammar"] = self.grammar.read_text()
        if self.choice:
            given["choice"] = decoding_pb2.StructuredOutput.Choice(texts=self.choice)
        if len(given) > 1:
            names = ", ".join("--" + name.replace("_", "-") for name in given)
            raise typer.BadParameter(f"{names} exclude each other: a text has one form.")
        return decoding_pb2.StructuredOutput(**given) if given else None

    def biases(self) -> dict[int, float]:
        """``--logit-bias`` by token id.

        Raises
        ------
        typer.BadParameter
            One is not of the form ID=BIAS.
        """
        found: dict[int, float] = {}
        for each in self.logit_bias or ():
            token, _, bias = each.partition("=")
            if not _TOKEN_ID.fullmatch(token) or not _NUMBER.fullmatch(bias):
                raise typer.BadParameter(
                    f"{each!r} is not a token id, = and a number, such as 42=-1.5", param_hint="--logit-bias"
                )
            found[int(token)] = float(bias)
        return found


def sampling(
    temperature: float,
    top_k: int,
    top_p: float | None,
    min_p: float,
    seed: int | None,
    constraints: Constraints | None = None,
) -> decoding_pb2.SamplingConfig:
    """Return the message for the options."""
    more = constraints or Constraints()
    return decoding_pb2.SamplingConfig(
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        seed=seed,
        repetition_penalty=more.repetition_penalty,
        presence_penalty=more.presence_penalty,
        frequency_penalty=more.frequency_penalty,
        logit_bias=more.biases(),
    )


def chosen_model(client: Client, model: str) -> str:
    """Return the requested model, or the server's only one.

    Raises
    ------
    NotFound
        No model was named, and the server has none or more than one.
    """
    if model:
        return model
    known = [record.model_id for record in all_models(client)]
    if len(known) == 1:
        return known[0]
    advice = (
        f"Name one with --model: {', '.join(known)}."
        if known
        else "Register one first: palimpsest models register smollm2-135m sample"
    )
    raise NotFound(Reason.MODEL_NOT_FOUND, f"The server has {len(known) or 'no'} models. {advice}")
