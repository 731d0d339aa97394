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
        "--model", "-m", help="Model id. Default: the only one there is.", envvar="PALIMPSEST_MODEL"
    ),
]
Count = Annotated[int, typer.Option("-n", min=1, max=64, help="Independent sequences for each prompt.")]
MaxTokens = Annotated[int, typer.Option(min=0, help="Most tokens for each sequence; 0 for 256.")]
Temperature = Annotated[float, typer.Option(min=0.0, help="0 is greedy.")]
TopK = Annotated[int, typer.Option(min=0, help="Only the k most probable tokens; 0 for all.")]
TopP = Annotated[float | None, typer.Option(help="The fewest tokens whose probability reaches p.")]
MinP = Annotated[float, typer.Option(min=0.0, max=1.0, help="Only tokens this probable beside the best.")]
Seed = Annotated[int | None, typer.Option(min=0, help="Same seed, same text. Default: drawn at random.")]
Stop = Annotated[list[str] | None, typer.Option(help="End before this text; repeatable.")]
Logprobs = Annotated[
    int | None, typer.Option(min=0, max=64, help="Report log-probabilities, and this many alternatives.")
]


def sampling(
    temperature: float, top_k: int, top_p: float | None, min_p: float, seed: int | None
) -> decoding_pb2.SamplingConfig:
    """Return the message for the options."""
    return decoding_pb2.SamplingConfig(
        temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p, seed=seed
    )


def chosen_model(client: Client, model: str) -> str:
    """Return the model asked for, or the only one the server has.

    Raises
    ------
    NotFound
        None was named and there is none, or more than one.
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
