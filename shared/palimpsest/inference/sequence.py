"""One sequence in the batch: its cache, its text, its end."""

from typing import Any

import torch

from palimpsest.inference.forward import Cache
from palimpsest.inference.requests import Delta, Event, Finish, Finished, Request
from palimpsest.inference.sampling import Choice, choose
from palimpsest.inference.text import Detokenizer, StopMatcher


class Running:
    """A sequence past its prompt.

    Parameters
    ----------
    request
        What was asked for.
    index
        Which of the request's n sequences.
    cache
        Holds the prompt, and every generated token but the last.
    tokenizer, eos_ids
        Of the model.
    """

    def __init__(
        self, request: Request, index: int, cache: Cache, tokenizer: Any, eos_ids: frozenset[int]
    ) -> None:
        self.request, self.index, self.cache = request, index, cache
        self.next_id = -1
        self.generated = 0
        self.done = False
        self._eos = frozenset() if request.ignore_eos else eos_ids
        self._detokenizer = Detokenizer(tokenizer)
        self._stops = StopMatcher(request.stop)
        self._text: list[str] = []
        self._logprob = 0.0
        self._unsent: list[Choice] = []

    def accept(self, logits: torch.Tensor) -> list[Event]:
        """Choose the next token from one row of logits [vocabulary]; returns what there is to tell."""
        request = self.request
        choice = choose(logits, request.sampling, self.index, self.generated, request.logprobs or 0)
        self.next_id = choice.id
        self.generated += 1
        self._logprob += choice.logprob
        self._unsent.append(choice)
        is_eos = choice.id in self._eos
        text, stop = self._stops.push("" if is_eos else self._detokenizer.push(choice.id))
        reason = Finish.EOS if is_eos else None
        if stop is None and reason is None and self.generated >= request.max_tokens:
            reason = Finish.LENGTH
        if stop is None and reason is not None:
            more, stop = self._stops.push(self._detokenizer.finish())
            text += more
            if stop is None:
                text += self._stops.finish()
        if stop is not None:
            reason = Finish.STOP
        events: list[Event] = []
        if text or (reason is not None and self._unsent):
            self._text.append(text)
            shown = tuple(self._unsent) if request.logprobs is not None else ()
            events.append(Delta(self.index, text, tuple(c.id for c in self._unsent), shown))
            self._unsent.clear()
        if reason is not None:
            self.done = True
            whole = "".join(self._text)
            events.append(Finished(self.index, reason, stop or "", self.generated, whole, self._logprob))
        return events
