"""One load of a context: chunks, and orders to recompute others, out; reports of the receiver in."""

from services.codec.loads.orders import FIRST_ORDER
from services.codec.loads.session import LoadSession
from services.codec.loads.window import SMALLEST_FRAME, WINDOW

__all__ = ["FIRST_ORDER", "SMALLEST_FRAME", "WINDOW", "LoadSession"]
