"""What is plotted, as data."""

from typing import NamedTuple


class LevelPoint(NamedTuple):
    """One level of a context: bytes, as a share of the cache too, and the loss to expect in nats a token."""

    level: str
    size_bytes: int
    share: float
    loss: float


class Curve(NamedTuple):
    """One way to load a context: seconds until it is usable at each bandwidth, in bytes a second."""

    name: str
    bandwidths: tuple[float, ...]
    seconds: tuple[float, ...]
