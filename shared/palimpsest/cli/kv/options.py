"""The options of loading a context, shared by ``kv load``, ``estimate`` and ``bench`` and by ``generate``."""

from typing import Annotated

import typer

from palimpsest.api.codec.v1 import codec_pb2
from palimpsest.cli.output.quantities import rate, seconds

Name = Annotated[str, typer.Argument(metavar="NAME", help="contexts/ID, or the ID alone.")]
Deadline = Annotated[
    str, typer.Option(metavar="TIME", help="When everything must be usable, e.g. 500ms or 2s.")
]
Mode = Annotated[
    str,
    typer.Option(
        help="quality (needs --deadline) or delay. Default: quality if --deadline is set, else delay."
    ),
]
Level = Annotated[
    list[str] | None,
    typer.Option("--level", help="Allow this level; repeatable. Give exactly one to force that level."),
]
LossBudget = Annotated[
    float, typer.Option(min=0.0, help="Largest mean loss in nats per token; 0 means 0.03.")
]
Bandwidth = Annotated[
    str, typer.Option(metavar="RATE", help="Bandwidth to assume at first, e.g. 20Mbps or 2.5MB/s.")
]
Link = Annotated[
    str, typer.Option("--bandwidth", metavar="RATE", help="Bandwidth of the link, e.g. 20Mbps or 2.5MB/s.")
]
Recompute = Annotated[
    float,
    typer.Option(
        min=0.0, metavar="TOKENS/S", help="Prefill speed of the receiver, if it can recompute chunks."
    ),
]


def load_settings(
    *,
    deadline: str = "",
    mode: str = "",
    level: list[str] | None = None,
    loss_budget: float = 0.0,
    bandwidth: str = "",
    recompute: float = 0.0,
) -> codec_pb2.LoadSettings:
    """Return the message for the options.

    Raises
    ------
    typer.BadParameter
        An option's value is not valid.
    """
    modes = {"": "UNSPECIFIED", "quality": "QUALITY", "delay": "DELAY"}
    if mode not in modes:
        raise typer.BadParameter(f"{mode!r} is neither quality nor delay", param_hint="--mode")
    settings = codec_pb2.LoadSettings(
        mode=f"MODE_{modes[mode]}",
        deadline_seconds=seconds(deadline),
        levels=level or [],
        loss_budget=loss_budget,
        bandwidth=rate(bandwidth),
    )
    if recompute:
        settings.recompute.add(tokens=1000, seconds=1000 / recompute)
    return settings
