"""Tokens as text: how a token's bytes are shown, and where in the text it begins."""

import codecs
from collections.abc import Sequence


def shown(piece: bytes) -> str:
    r"""A token as a string; one that holds part of a character as ``bytes:\xe2\x82``, as OpenAI writes it."""
    try:
        return piece.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in piece)


class Offsets:
    """Where tokens begin in the text they make, in characters.

    A token that holds the rest of a character begins where that character does.

    Parameters
    ----------
    skipped
        Bytes of the first tokens that are not in the text: a special token before a prompt, or the space that some
        tokenizers put there.
    """

    def __init__(self, skipped: int = 0) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._skipped, self._at = skipped, 0

    def next(self, piece: bytes) -> int:
        """Where the next token begins."""
        begins = self._at
        left = piece[self._skipped :]
        self._skipped -= len(piece) - len(left)
        self._at += len(self._decoder.decode(left))
        return begins


def bytes_before(pieces: Sequence[bytes], text: str) -> int:
    """Bytes of a prompt's tokens that come before the prompt itself; 0 where they cannot be told apart."""
    whole, wanted = b"".join(pieces), text.encode()
    return len(whole) - len(wanted) if whole.endswith(wanted) else 0
