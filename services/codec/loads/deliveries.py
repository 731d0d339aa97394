"""Which chunks were sent at which level, and what became of them."""

from palimpsest.kv.plan import Load, loss_of_chunks


class Deliveries:
    """The chunks of a load that were sent.

    Parameters
    ----------
    load
        The load.
    """

    def __init__(self, load: Load) -> None:
        self._load = load
        self._levels: dict[int, str] = {}
        self._unconfirmed: set[int] = set()
        self._tried: dict[int, set[str]] = {}
        self._repeats: list[int] = []

    def __bool__(self) -> bool:
        """Whether any chunk still has to be confirmed or repeated."""
        return bool(self._unconfirmed or self._repeats)

    @property
    def to_repeat(self) -> bool:
        """Whether a chunk has to be sent again."""
        return bool(self._repeats)

    def begin(self, chunk: int, level: str) -> None:
        """Note that a chunk is sent."""
        self._levels[chunk] = level
        self._unconfirmed.add(chunk)
        self._tried.setdefault(chunk, set()).add(level)

    def sent(self, chunk: int) -> bool:
        """Whether a chunk was sent, or begun, at any level."""
        return chunk in self._tried

    def level(self, chunk: int) -> str | None:
        """The level at which a chunk is or was sent; None: it is not."""
        return self._levels.get(chunk)

    def cancel(self, chunk: int) -> None:
        """Note that a chunk was given up or is recomputed."""
        self._levels.pop(chunk, None)
        self._unconfirmed.discard(chunk)
        if chunk in self._repeats:
            self._repeats.remove(chunk)

    def accept(self, chunk: int) -> None:
        """Note that the receiver has decoded a chunk."""
        self._unconfirmed.discard(chunk)

    def reject(self, chunk: int) -> None:
        """Note that a chunk arrived damaged; one that was not sent, or is repeated already, is ignored."""
        if chunk in self._levels and chunk not in self._repeats:
            self._repeats.append(chunk)

    def repeat(self, chunk: int) -> None:
        """Note that a chunk could not be read to its end."""
        self._repeats.append(chunk)

    def next_repeat(self) -> int:
        """Take the next chunk to send again."""
        return self._repeats.pop(0)

    def untried(self, chunk: int, levels: list[str]) -> str | None:
        """Return the first of some levels at which a chunk was not sent yet; None if it was at all of them."""
        return next((level for level in levels if level not in self._tried[chunk]), None)

    @property
    def loss(self) -> float:
        """Loss of the load so far, in nats a token of the whole: what was not sent is recomputed."""
        return loss_of_chunks(
            (
                chunk.tokens,
                next((option.loss for option in chunk.options if option.level == self._levels.get(at)), None),
            )
            for at, chunk in enumerate(self._load.chunks)
        )
