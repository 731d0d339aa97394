"""What a coded chunk costs, told as a bound; and another coder for chunks that a level would cost too much."""

from palimpsest.kv.promises.estimates import Estimates
from palimpsest.kv.promises.keeping import CAPS, Coded, Kept, Losses, keep

__all__ = ["CAPS", "Coded", "Estimates", "Kept", "Losses", "keep"]
