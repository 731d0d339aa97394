"""A sequence whose text has a form: every token is one that the form's grammar allows."""

from collections.abc import Callable, Sequence

from palimpsest.engine.events import Event
from palimpsest.engine.requests import Request, Step
from palimpsest.engine.sequence import SequenceState
from palimpsest.lm.constraints.grammars import GrammarState, masked
from palimpsest.lm.forward import Cache, Output, SequenceInput
from palimpsest.lm.protocols import Model
from palimpsest.lm.sampling import Choice, choose


class StructuredSequence(SequenceState):
    """The plain sequence, with a mask on its logits.

    The next mask is computed while the next pass runs. If it is late, the sequence keeps its logits and reads nothing
    in the steps until it is there, so no other sequence waits for it. What it generates does not depend on that.

    Parameters
    ----------
    request
        With a grammar.
    index, cache, model
        As in :class:`SequenceState`.
    wake
        Wakes the engine; called on any thread.
    """

    def __init__(
        self, request: Request, index: int, cache: Cache, model: Model, wake: Callable[[], None]
    ) -> None:
        super().__init__(request, index, cache, model)
        assert request.grammar is not None
        self._form: GrammarState = request.grammar.start()
        self._wake = wake
        self._held: Output | None = None

    def feed(self) -> Sequence[SequenceInput]:
        """Nothing while its mask is late."""
        return [] if self._held is not None else super().feed()

    def take(self, outputs: Sequence[Output], step: Step) -> list[Event]:
        """Choose the next token, if its mask is there; else keep the logits."""
        if outputs:
            self._held = outputs[0]
        if self._held is None:
            return []
        if not self._form.ready:
            if outputs:
                self._form.when_ready(self._wake)
            return []
        output, self._held = self._held, None
        return super().take([output], step)

    def choose(self, output: Output, row: int) -> Choice:
        """Choose among the tokens that the grammar allows.

        Where forbidden words and min_tokens leave none of them, the form counts and they do not.
        """
        request, logits, mask = self.request, output.logits[row], self._form.mask()
        adjusted = masked(logits if self.adjustment is None else self.adjustment.apply(logits), mask)
        if self.adjustment is not None and self.adjustment.forbids and adjusted.max() == float("-inf"):
            adjusted = masked(logits, mask)
        return choose(logits, request.sampling, self.index, self.generated, request.logprobs or 0, adjusted)

    def push(self, choice: Choice) -> None:
        """Append a token and have the next mask computed."""
        super().push(choice)
        if not self.done:
            self._form.advance(choice.id)
