"""Cache memory that is reserved for requests and tasks."""


class CacheBudget:
    """Cache memory, in blocks, reserved for requests and tasks before they begin.

    Each reserves the most it can ever need, so nothing is preempted.
    """

    def __init__(self, blocks: int) -> None:
        self.blocks = blocks
        self.used = 0

    @property
    def free(self) -> int:
        """Blocks that nobody has reserved."""
        return self.blocks - self.used

    def take(self, blocks: int) -> bool:
        """Reserve blocks if enough are free; return whether it did."""
        if self.used + blocks > self.blocks:
            return False
        self.used += blocks
        return True

    def give(self, blocks: int) -> None:
        """Return reserved blocks."""
        self.used -= blocks
