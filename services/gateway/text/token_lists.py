"""Log-probabilities in the four lists of a completion: tokens, their own, the most probable ones', their offsets."""

from collections.abc import Iterable
from typing import Any

from palimpsest.api.decoding.v1 import decoding_pb2 as pb
from services.gateway.text.pieces import Offsets, shown
from services.gateway.text.prompts import Echo


class TokenLists:
    """Collects the tokens of one choice, in order; :meth:`take` gives what has come since.

    Every token of the choice is in it, the one that ended it too, although it is not in the text: who scores a text
    drops the last one.
    """

    def __init__(self, echo: Echo | None = None) -> None:
        self._offsets = Offsets(echo.skipped if echo else 0)
        self._start()
        if echo is not None:
            for at, piece in enumerate(echo.pieces):
                self._add(piece, echo.scores[at - 1] if at else None)

    def _start(self) -> None:
        self._tokens: list[str] = []
        self._logprobs: list[float | None] = []
        self._top: list[dict[str, float] | None] = []
        self._begins: list[int] = []

    def _add(self, piece: bytes, score: pb.TokenLogprob | None) -> None:
        name = shown(piece)
        self._tokens.append(name)
        self._begins.append(self._offsets.next(piece))
        self._logprobs.append(score.logprob if score is not None else None)
        self._top.append(top_of(name, score) if score is not None else None)

    def add(self, tokens: Iterable[pb.TokenLogprob]) -> None:
        """Append generated tokens."""
        for token in tokens:
            self._add(token.bytes, token)

    def take(self) -> dict[str, Any]:
        """The lists so far; the next ones go on from here."""
        made = {
            "tokens": self._tokens,
            "token_logprobs": self._logprobs,
            "top_logprobs": self._top,
            "text_offset": self._begins,
        }
        self._start()
        return made


def top_of(name: str, score: pb.TokenLogprob) -> dict[str, float]:
    """The most probable tokens with the chosen one, which may not be among them; of two alike the likelier."""
    top: dict[str, float] = {}
    for each in score.top:
        top.setdefault(shown(each.bytes), each.logprob)
    top.setdefault(name, score.logprob)
    return top
