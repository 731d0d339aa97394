"""Answers that gRPC would not deliver are refused in words."""

from typing import Any

from palimpsest.errors import Reason, ResourceExhausted

LARGEST_ANSWER = 4 << 20
"""Bytes of one message that gRPC takes unless it is told otherwise."""


def checked(message: Any) -> Any:
    """Return the message, if its receiver can take it.

    Raises
    ------
    ResourceExhausted
        ANSWER_TOO_LARGE.
    """
    size = message.ByteSize()
    if size > LARGEST_ANSWER:
        raise ResourceExhausted(
            Reason.ANSWER_TOO_LARGE,
            f"The answer has {size} bytes; a message has {LARGEST_ANSWER} at most. Ask for less: fewer entries, or "
            "a shorter text.",
            metadata={"bytes": size, "limit": LARGEST_ANSWER},
        )
    return message
