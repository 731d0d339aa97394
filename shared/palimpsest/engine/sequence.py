"""The plain sequence: one token after another, its text, its end."""

from collections.abc import Sequence

from palimpsest.engine.events import Delta, Event, Finish, Finished
from palimpsest.engine.requests import Request, Step
from palimpsest.lm.detokenizer import StopMatcher
from palimpsest.lm.forward import Cache, Output, SequenceInput
from palimpsest.lm.protocols import Model
from palimpsest.lm.sampling import Choice, choose


class SequenceState:
    """A sequence that reads its last token in each step; implements :class:`palimpsest.engine.requests.Sequence`.

    Parameters
    ----------
    request
        What was asked for.
    index
        Which of the request's n sequences.
    cache
        Holds the prompt, and every generated token but the last.
    model
        For its text decoder and end-of-sequence tokens.
    """

    def __init__(self, request: Request, index: int, cache: Cache, model: Model) -> None:
        self.request, self.index, self.cache = request, index, cache
        self.next_id = -1
        self.generated = 0
        self.done = False
        self._eos = frozenset() if request.ignore_eos else model.eos_ids
        self._detokenizer = model.text_decoder()
        self._stops = StopMatcher(request.stop)
        self._text: list[str] = []
        self._logprob = 0.0
        self._new = ""
        self._unsent: list[Choice] = []
        self._end: tuple[Finish, str] | None = None

    def feed(self) -> Sequence[SequenceInput]:
        """Return the last token."""
        return [SequenceInput(self.cache, [self.next_id])]

    def take(self, outputs: Sequence[Output], step: Step) -> list[Event]:
        """Append the next token; returns the new events."""
        self.push(self.choose(outputs[0], 0))
        return self.events()

    def release(self) -> None:
        """Give the memory back."""
        self.cache.release()

    def choose(self, output: Output, row: int) -> Choice:
        """Choose the next token from one row of logits."""
        request = self.request
        return choose(output.logits[row], request.sampling, self.index, self.generated, request.logprobs or 0)

    def push(self, choice: Choice) -> None:
        """Append a token."""
        self.next_id = choice.id
        self.generated += 1
        self._logprob += choice.logprob
        self._unsent.append(choice)
        is_eos = choice.id in self._eos
        text, stop = self._stops.push("" if is_eos else self._detokenizer.push(choice.id))
        reason = Finish.EOS if is_eos else None
        if stop is None and reason is None and self.generated >= self.request.max_tokens:
            reason = Finish.LENGTH
        if stop is None and reason is not None:
            more, stop = self._stops.push(self._detokenizer.finish())
            text += more
            if stop is None:
                text += self._stops.finish()
        if stop is not None:
            reason = Finish.STOP
        self._new += text
        if reason is not None:
            self.done, self._end = True, (reason, stop or "")

    def events(self) -> list[Event]:
        """Return the events since the last call."""
        events: list[Event] = []
        if self._new or (self.done and self._unsent):
            self._text.append(self._new)
            shown = tuple(self._unsent) if self.request.logprobs is not None else ()
            events.append(Delta(self.index, self._new, tuple(c.id for c in self._unsent), shown))
            self._unsent.clear()
            self._new = ""
        if self._end is not None:
            reason, stop = self._end
            whole = "".join(self._text)
            events.append(Finished(self.index, reason, stop, self.generated, whole, self._logprob))
        return events
