"""The loop: one forward pass a step, which verifies the last proposal and makes the next one (paper, section 3).

::

    read      last token, d1, d2, ..., dn              dj: proposed, consecutive positions of one passage
    p_M       at each of them, by one search           the mixture; in LOSSLESS the model's own choice
    take      the longest acceptable prefix of d
    then      all taken:  the passage's next token, if it is acceptable too, and propose what follows it
              else        the best token of p_M; if the model's weight is small and a neighbour has that token,
                          propose what follows the neighbour
              rejected:   the best token of p_M, and no proposal
    forget    the rest: the cache is cropped

The pass that reads a proposal also verifies it, so no other pass is needed. Once a span has ended, its tokens leave the
index for the rest of the generation, so that it does not go in circles. The text depends neither on how many tokens are
proposed at once nor on what else the engine runs.
"""

import time
from collections.abc import Sequence

import numpy as np
import torch

from palimpsest.candidates.mixture import Mixed, search
from palimpsest.candidates.settings import Mode
from palimpsest.decoding.quoting.attribution import Attribution
from palimpsest.decoding.quoting.choosing import acceptable, choice_of, favourite
from palimpsest.decoding.quoting.events import QuotingFinished, QuotingStats, Span, SpanKind, SpanRevoked
from palimpsest.decoding.quoting.offsets import OffsetDetokenizer
from palimpsest.decoding.quoting.quotable import Quotable
from palimpsest.decoding.quoting.spans import (
    DraftLength,
    SuffixMatch,
    proposal_positions,
    take_while,
)
from palimpsest.engine.events import Delta, Event, Finished
from palimpsest.engine.requests import Request, Step
from palimpsest.engine.sequence import SequenceState
from palimpsest.lm.forward import Cache, Output, SequenceInput
from palimpsest.lm.model import LanguageModel
from palimpsest.lm.sampling import Choice
from palimpsest.lm.token_bytes import special_ids

_NOTHING = np.zeros(0, dtype=np.int64)


class Quoting(SequenceState):
    """A sequence that quotes; see :class:`palimpsest.decoding.quoting.NestRequest`."""

    def __init__(
        self, nest: Quotable, request: Request, index: int, cache: Cache, model: LanguageModel
    ) -> None:
        written = OffsetDetokenizer(model.tokenizer, nest.write(model), special_ids(model.tokenizer))
        super().__init__(request, index, cache, model, written)
        self._nest, self._settings, self._block = nest, nest.filled, nest.candidates
        self._index = nest.index(model)
        self.stats = QuotingStats()
        self._attribution = Attribution(index, self._block, written, self._is_alive, self.stats)
        self._output = bytearray()
        self._live = torch.ones(len(self._index), dtype=torch.bool, device=model.device)
        self._usable = self._index.allowed.copy()
        self._lossless = self._settings.mode is Mode.LOSSLESS
        self._suffix = SuffixMatch(self._block) if self._lossless else None
        if self._suffix is not None:
            self._suffix.extend(list(request.ids))
        self._length = DraftLength(self._settings.draft)
        self._begins = frozenset(self._block.first.tolist())
        self._draft = _NOTHING
        self._fed = self._led = 0
        self._fresh: list[int] = []
        self._applied = -1
        self._withdrawals: list[Span | SpanRevoked] = []
        self._reader = nest.revocations.join()

    def feed(self) -> Sequence[SequenceInput]:
        """Rows of the next step: the last token, and the proposal."""
        self._apply_revocations()
        if not self._withdrawals:  # else they are delivered at the end of this step, and reported at the next
            self._nest.revocations.applied(self._reader, self._applied)
        self._fed = 1 + len(self._draft)
        ids = [self.next_id, *self._block.tokens[self._draft].tolist()]
        return [
            SequenceInput(
                self.cache, ids, logits="all", retrieval_queries="all" if self._nest.searches else "none"
            )
        ]

    def take(self, outputs: Sequence[Output], step: Step) -> list[Event]:
        """Verify the proposal, and choose the token after what was taken of it."""
        (output,) = outputs
        self._count(step)
        self._cost = step.cost.relative
        self._apply_revocations()
        draft = self._draft
        began = time.perf_counter()
        mixed = self._mix(output)
        positions = _NOTHING
        if len(draft):  # one position more than was read: the last row judges the passage's next token
            positions = proposal_positions(self._block, int(draft[0]), len(draft) + 1, self._usable)
        accept = self._judge(mixed, output, positions)
        self.stats.search_seconds += time.perf_counter() - began
        taken = min(len(draft), take_while(accept))
        for row in range(taken):
            if self.done:
                taken = row
                break
            position = int(draft[row])
            self._append(self._choice(mixed, output, row, position), SpanKind.SPAN, position, mixed, row)
        self._settle(taken)
        if self._fed:
            self.cache.crop(self.cache.length - (self._fed - 1 - taken))
        if not self.done:
            rejected = taken < max(self._fed - 1, 0)
            onward = (
                int(positions[taken]) if not rejected and taken < len(positions) and accept[taken] else -1
            )
            self._continue(mixed, output, taken, onward, rejected or (onward < 0 and taken < len(positions)))
        return self.events()

    def events(self) -> list[Event]:
        """Text, spans whose text is out, withdrawals, the end of the sequence."""
        events = super().events()
        self._apply_revocations()
        for event in events:
            if isinstance(event, Delta):
                self._output += event.text.encode()
        quoted = [*self._withdrawals, *self._attribution.ripe(self._output, self.done)]
        self._withdrawals = []
        self.stats.tokens = self.generated
        if self.done:
            return [*events[:-1], *quoted, events[-1]]
        return [*events, *quoted]

    def finished(self, end: Finished) -> QuotingFinished:
        """The end of the sequence, with what quoting did in it."""
        return QuotingFinished(**vars(end), quoting=self.stats)

    def release(self) -> None:
        """Give the memory back, and stop taking part in revocations."""
        self._nest.revocations.leave(self._reader)
        super().release()

    def _is_alive(self, corpus: str, document: str, version: int) -> bool:
        return not self._nest.revocations.is_dead(corpus, document, version)

    def _apply_revocations(self) -> None:
        """Drop candidates and spans that were revoked since the last call.

        The deletion is reported as applied later, in :meth:`feed`, once the client has been sent the withdrawals.
        """
        revocations = self._nest.revocations
        version = revocations.version
        if version == self._applied:
            return
        if version or self._applied >= 0:
            gone = (
                self._nest.dead()[self._block.passage_of()] if len(self._block) else np.zeros(0, dtype=bool)
            )
            self._usable &= ~gone
            numbers = self._index.number[gone]
            self._live[torch.from_numpy(numbers[numbers >= 0]).to(self._live.device)] = False
            self._draft = self._draft[: take_while(self._usable[self._draft])]
            self._withdrawals += self._attribution.revoke()
        self._applied = version

    def _count(self, step: Step) -> None:
        if not self._fed:  # the prompt's own pass
            return
        self.stats.lm_forwards += 1
        self.stats.lm_positions += self._fed
        self.stats.forward_seconds += step.seconds

    def _mix(self, output: Output) -> Mixed:
        """The mixture at every position that was read."""
        temperature = self.request.sampling.temperature
        logits = output.logits / temperature if temperature and not self._lossless else output.logits
        neighbours = None
        if output.retrieval_queries is not None:
            assert self._settings.r is not None
            neighbours = search(self._index, output.retrieval_queries, self._live, self._settings.r)
            self.stats.searches += output.retrieval_queries.shape[0]
        return Mixed(self._index, neighbours, logits, self._settings)

    def _judge(self, mixed: Mixed, output: Output, positions: np.ndarray) -> np.ndarray:
        """Which proposed tokens are acceptable, each given those before it: bool [len(positions)]."""
        positions = positions[: output.logits.shape[0]]
        if not len(positions):
            return np.zeros(0, dtype=bool)
        if self._lossless:
            own = self._own_choices(output, len(positions))
            return self._block.tokens[positions] == own
        return acceptable(mixed, positions, self._settings, self.request.sampling, self.index, self.generated)

    def _own_choices(self, output: Output, count: int) -> np.ndarray:
        """The model's own choice at each position, as far as the proposal agrees with it: int64 [count]."""
        if not self.request.sampling.temperature:
            return np.argmax(output.logits[:count].cpu().numpy(), axis=-1)
        chosen = np.full(count, -1, dtype=np.int64)
        draft, before = self._block.tokens[self._draft], self.generated
        for row in range(count):
            chosen[row] = self.choose(output, row).id
            if row >= len(draft) or draft[row] != chosen[row]:
                break
            self.generated += 1  # each token has a random number of its own
        self.generated = before
        return chosen

    def _continue(self, mixed: Mixed, output: Output, row: int, onward: int, rejected: bool) -> None:
        """Append the token after what was taken, and propose what may follow it."""
        if self._suffix is not None:
            choice = self.choose(output, row)
            goes_on = onward >= 0 and choice.id == int(self._block.tokens[onward])
            self._append(choice, SpanKind.SPAN if goes_on else None, onward if goes_on else -1, mixed, row)
            start = onward + 1 if goes_on else self._suffix.best(self._usable)
            self._propose(start, led=goes_on)
            return
        if onward >= 0:
            self._append(self._choice(mixed, output, row, onward), SpanKind.SPAN, onward, mixed, row)
            self._propose(onward + 1, led=True)
            return
        if rejected and row == self._fed - 1:  # the whole proposal was taken, but not the token after it
            self.stats.spans_proposed += 1
            self.stats.proposed_tokens += 1
        token = favourite(mixed, output.logits[row], row, self.request.sampling, self.index, self.generated)
        choice = choice_of(output.logits[row], token, mixed, row, self.request)
        position = -1
        if (
            not rejected
            and self._settings.mode is not Mode.KNN_LM
            and mixed.weight[row] <= self._settings.delta
        ):
            position = mixed.carrier(row, token, self._usable)
        self._retire()
        if position >= 0:
            self._append(choice, SpanKind.SPAN, position, mixed, row)
            self._propose(position + 1, led=True)
            return
        nearest = mixed.nearest(row) if self._settings.token_matches else -1
        matches = nearest >= 0 and int(self._block.tokens[nearest]) == token and bool(self._usable[nearest])
        self._append(
            choice, SpanKind.TOKEN_MATCH if matches else None, nearest if matches else -1, mixed, row
        )
        self._draft = _NOTHING

    def _propose(self, start: int, led: bool) -> None:
        """Propose the positions from ``start`` on; ``led`` if the token before them was taken from the passage too."""
        self._led = int(led)
        self._draft = _NOTHING
        if (
            not self.done and start >= 0 and not (led and start in self._begins)
        ):  # a passage ends where one begins
            room = min(self._length(self._cost), self.request.max_tokens - self.generated)
            self._draft = proposal_positions(self._block, start, room, self._usable)
        if led or len(self._draft):
            self.stats.spans_proposed += 1
            self.stats.proposed_tokens += self._led + len(self._draft)
            self.stats.accepted_tokens += self._led
            self.stats.spans_accepted += self._led
        if led and not len(self._draft):
            self._attribution.proposal(1, 1)

    def _settle(self, taken: int) -> None:
        """Record how much of the proposal was taken."""
        proposed = self._fed - 1
        if proposed <= 0:
            return
        self._length.saw(proposed, taken)
        self._attribution.proposal(self._led + proposed, self._led + taken)
        self.stats.accepted_tokens += taken
        self.stats.spans_accepted += bool(taken) and not self._led

    def _append(self, choice: Choice, kind: SpanKind | None, position: int, mixed: Mixed, row: int) -> None:
        """Append a token, and record where it was taken from."""
        is_text = choice.id not in self.eos_ids
        self.push(choice)
        if self._suffix is not None:
            self._suffix.push(choice.id)
        if is_text:
            self._attribution.token(kind, position, float(mixed.weight[row]), float(mixed.ratio[row]))
        if kind is SpanKind.SPAN and not self._lossless:
            self._usable[position] = False
            self._fresh.append(position)

    def _retire(self) -> None:
        """Take the last span's tokens out of the index, now that it has ended.

        Not earlier: what a search finds must not depend on how the span was cut into proposals.
        """
        numbers = self._index.number[self._fresh]
        self._live[torch.from_numpy(numbers[numbers >= 0]).to(self._live.device)] = False
        self._fresh.clear()

    def _choice(self, mixed: Mixed, output: Output, row: int, position: int) -> Choice:
        """The block's token at a position, as a choice."""
        if self._lossless:
            return self.choose(output, row)
        return choice_of(output.logits[row], int(self._block.tokens[position]), mixed, row, self.request)
