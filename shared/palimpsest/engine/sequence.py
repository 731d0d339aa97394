"""The plain sequence: one token after another, its text, its end."""

from collections.abc import Sequence

from palimpsest.engine.events import Delta, Event, Finish, Finished
from palimpsest.engine.requests import Request, Step
from palimpsest.lm.constraints.adjustment import Adjustment
from palimpsest.lm.detokenizer import StopMatcher
from palimpsest.lm.forward import Cache, Output, SequenceInput
from palimpsest.lm.protocols import Model, TextDecoder
from palimpsest.lm.sampling import Choice, choose


class SequenceState:
    """A sequence that generates text token by token; implements :class:`palimpsest.engine.requests.Sequence`.

    A subclass may read several tokens in a step by overriding :meth:`feed` and :meth:`take`; it appends the tokens it
    keeps with :meth:`push` and crops the cache to them.

    Parameters
    ----------
    request
        What was asked for.
    index
        Which of the request's n sequences.
    cache
        Holds the prompt, and every generated token but the last.
    model
        Provides the text decoder and the end-of-sequence tokens.
    decoder
        Turns tokens into text; None for the model's own.

    Attributes
    ----------
    next_id
        The token pushed last; -1 before the first.
    eos_ids
        Tokens that end the sequence; none where the request ignores them.
    adjustment
        What the request's penalties, biases and forbidden tokens do to the logits; None without any.
    """

    def __init__(
        self,
        request: Request,
        index: int,
        cache: Cache,
        model: Model,
        decoder: TextDecoder | None = None,
    ) -> None:
        self.request, self.index, self.cache = request, index, cache
        self.next_id = -1
        self.generated = 0
        self.done = False
        self.eos_ids = frozenset[int]() if request.ignore_eos else frozenset(model.eos_ids)
        self.adjustment = _adjustment_of(request, self.eos_ids)
        self._detokenizer = model.text_decoder() if decoder is None else decoder
        self._stops = StopMatcher(request.stop)
        self._text: list[str] = []
        self._logprob = 0.0
        self._new = ""
        self._unsent: list[Choice] = []
        self._end: tuple[Finish, str] | None = None

    def feed(self) -> Sequence[SequenceInput]:
        """Rows of the next step: the last token."""
        return [SequenceInput(self.cache, [self.next_id])]

    def take(self, outputs: Sequence[Output], step: Step) -> list[Event]:
        """Choose the next token from the last one's output; the first output is that of the prompt's last token."""
        self.push(self.choose(outputs[0], 0))
        return self.events()

    def release(self) -> None:
        """Give the memory back; the sequence has ended or its request was cancelled."""
        self.cache.release()

    def choose(self, output: Output, row: int) -> Choice:
        """Choose the next token from one row of logits."""
        request, logits, adjusted = self.request, output.logits[row], None
        if self.adjustment is not None:
            adjusted = self.adjustment.apply(logits)
            if self.adjustment.forbids and adjusted.max() == float("-inf"):
                adjusted = logits  # everything is forbidden, so nothing can be
        return choose(logits, request.sampling, self.index, self.generated, request.logprobs or 0, adjusted)

    def push(self, choice: Choice) -> None:
        """Append a token."""
        self.next_id = choice.id
        self.generated += 1
        self._logprob += choice.logprob
        self._unsent.append(choice)
        if self.adjustment is not None:
            self.adjustment.push(choice.id)
        is_eos = choice.id in self.eos_ids
        is_stop = choice.id in self.request.stop_ids
        text, stop = self._stops.push("" if is_eos or is_stop else self._detokenizer.push(choice.id))
        reason = Finish.EOS if is_eos else Finish.STOP if is_stop else None
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
        """Events since the last call."""
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
            end = Finished(self.index, reason, stop, self.generated, whole, self._logprob)
            events.append(self.finished(end))
        return events

    def finished(self, end: Finished) -> Finished:
        """The event that ends the sequence; a subclass may replace it with one that carries more."""
        return end


def _adjustment_of(request: Request, eos_ids: frozenset[int]) -> Adjustment | None:
    if not (request.sampling.adjusts or request.min_tokens or request.bad_words):
        return None
    ending = eos_ids.union(request.stop_ids)
    # Forbidding the end of the text alone is what min_tokens is for; transformers leaves it out as well.
    words = [word for word in request.bad_words if len(word) > 1 or eos_ids.isdisjoint(word)]
    return Adjustment(request.sampling, request.ids, request.min_tokens, ending, words)
