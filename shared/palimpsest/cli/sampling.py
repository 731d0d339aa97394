"""The options of text generation, shared by ``generate`` and ``batch``."""

from typing import Annotated

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


def sampling(
    temperature: float, top_k: int, top_p: float | None, min_p: float, seed: int | None
) -> decoding_pb2.SamplingConfig:
    """Return the message for the options."""
    return decoding_pb2.SamplingConfig(
        temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p, seed=seed
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
