"""The engine runs what it has never heard of: a model that is no causal LM, and a strategy of one's own."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
import torch

from palimpsest.engine import Delta, Engine, Finish, Finished, Request
from palimpsest.engine.events import Ended, Event
from palimpsest.engine.requests import Step
from palimpsest.errors import InvalidArgument
from palimpsest.lm.forward import Output, SequenceInput
from palimpsest.lm.protocols import Limits

from .collecting import Collector, run

SIZE = 11


@dataclass
class SumCache:
    """The state of a sequence: running sums, one after each token. No keys, no values, no blocks."""

    sums: list[int] = field(default_factory=lambda: [0])
    can_crop: bool = True

    @property
    def length(self) -> int:
        return len(self.sums) - 1

    def branch(self) -> "SumCache":
        return SumCache(list(self.sums))

    def crop(self, length: int) -> None:
        del self.sums[length + 1 :]

    def accepts(self, keys: torch.Tensor, values: torch.Tensor) -> bool:
        return False

    def export(self, start: int = 0, stop: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        raise NotImplementedError

    def load(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        raise NotImplementedError

    def release(self) -> None:
        self.sums = [0]


class Letters:
    """Text of the toy model: a letter for each token."""

    def push(self, token: int) -> str:
        return chr(ord("a") + token)

    def finish(self) -> str:
        return ""


class SumModel:
    """Says the sum of all tokens so far, modulo 11. It has no tokenizer, no weights and no layers."""

    eos_ids = frozenset({0})
    pool = None
    limits = Limits(vocab_size=SIZE, context_length=200, cache_blocks=40, block_bytes=16, prefill_chunk=7)

    def __init__(self) -> None:
        self.passes: list[list[int]] = []
        self.closed = False

    def new_cache(self) -> SumCache:
        return SumCache()

    def forward(self, inputs: Sequence[SequenceInput], hidden: Sequence[int] = ()) -> list[Output]:
        self.passes.append([one.count for one in inputs])
        outputs = []
        for one in inputs:
            sums = one.cache.sums
            for token in one.ids:
                sums.append((sums[-1] + token) % SIZE)
            said = sums[len(sums) - one.outputs :]
            outputs.append(
                Output(torch.nn.functional.one_hot(torch.tensor(said, dtype=torch.long), SIZE).float() * 9)
            )
        return outputs

    def text_decoder(self) -> Letters:
        return Letters()

    def prepare(self) -> None: ...

    def wait(self) -> None: ...

    def close(self) -> None:
        self.closed = True


@dataclass(frozen=True)
class Guessed(Event):
    """Two tokens were read in one step; ``right`` says whether the second was what the model would have said."""

    right: bool


@dataclass(frozen=True)
class Done(Ended):
    """The end of a guessing sequence."""

    ids: tuple[int, ...]


@dataclass
class Guessing:
    """Reads the last token and a guess of the next one, which is kept where the model agrees."""

    guess: int
    needs: Literal["logits", "retrieval_queries"] = "logits"
    width: int = 1

    def check(self, model: Any, request: Request) -> None:
        if not 0 <= self.guess < SIZE:
            raise InvalidArgument("TOY", f"The guess {self.guess} is not a token.")

    def start(self, request: Request, index: int, cache: Any, model: Any) -> "GuessingSequence":
        return GuessingSequence(self.guess, request.max_tokens, cache)


class GuessingSequence:
    """One guessing sequence: a plain class, of the engine's protocol and of no class of the engine."""

    def __init__(self, guess: int, most: int, cache: SumCache) -> None:
        self.done, self.generated = False, 0
        self._guess, self._most, self._cache = guess, most, cache
        self._ids: list[int] = []

    def feed(self) -> list[SequenceInput]:
        guess = [self._guess] if self._most - self.generated > 1 else []
        return [SequenceInput(self._cache, [self._ids[-1], *guess], logits="all")]

    def take(self, outputs: Sequence[Output], step: Step) -> list[Event]:
        best = outputs[0].logits.argmax(dim=-1).tolist()
        events: list[Event] = []
        if self._ids:  # past the prompt
            right = len(best) == 2 and best[0] == self._guess
            if len(best) == 2:
                events.append(Guessed(right))
                if not right:
                    self._cache.crop(self._cache.length - 1)
                    best.pop()
        self._ids += best[: self._most - self.generated]
        self.generated = len(self._ids)
        if self.generated >= self._most:
            self.done = True
            events.append(Done(tuple(self._ids)))
        return events

    def release(self) -> None:
        self._cache.release()


def said(prompt: list[int], count: int) -> list[int]:
    """What the toy model says, by a plain loop."""
    ids = list(prompt)
    for _ in range(count):
        ids.append(sum(ids) % SIZE)
    return ids[len(prompt) :]


@pytest.fixture
def model() -> SumModel:
    return SumModel()


@pytest.fixture
def engine(model: SumModel):
    made = Engine(model, max_running=4)
    yield made
    made.close()
    assert model.closed


def test_a_model_that_is_no_causal_lm_generates(engine, model):
    prompt = list(range(1, 10)) * 2
    (result,) = run(engine, Request(prompt, max_tokens=5, ignore_eos=True))
    assert result.ids() == said(prompt, 5)
    assert result.finished().text == "".join(chr(ord("a") + token) for token in said(prompt, 5))
    assert max(max(counts) for counts in model.passes) == 7  # prompts are read in chunks of the model's limit


def test_its_end_of_sequence_is_heeded_and_its_vocabulary_checked(engine):
    (result,) = run(engine, Request([5, 6], max_tokens=5))  # 5 + 6 = 0 modulo 11
    assert result.finished().reason is Finish.EOS
    with pytest.raises(InvalidArgument, match="0 to 10"):
        engine.submit(Request([11]), lambda events: None)


def test_many_of_its_sequences_share_a_batch(engine):
    prompts = [[1, 2], [3, 4, 5], [6], [7, 8, 9, 10]]
    results = run(engine, *[Request(p, max_tokens=12, ignore_eos=True) for p in prompts])
    assert [list(r.ids()) for r in results] == [said(p, 12) for p in prompts]


@pytest.mark.parametrize("guess", [0, 3, 7])
def test_a_strategy_of_ones_own_runs_beside_plain_requests(engine, guess):
    ours, plain = Collector(), Collector()
    engine.submit(Request([4, 1], max_tokens=9, strategy=Guessing(guess)), ours.deliver)
    engine.submit(Request([2, 2], max_tokens=9, ignore_eos=True), plain.deliver)
    plain.wait()
    end = ours.wait().events[-1]
    assert isinstance(end, Done)
    assert list(end.ids) == said([4, 1], 9)
    guesses = [event.right for event in ours.events if isinstance(event, Guessed)]
    assert len(guesses) >= 4
    assert sum(guesses) + len(guesses) <= 9
    assert any(isinstance(event, Delta) for event in plain.events)
    assert any(isinstance(event, Finished) for event in plain.events)


def test_what_a_strategy_refuses_is_refused_at_once(engine):
    with pytest.raises(InvalidArgument, match="is not a token"):
        engine.submit(Request([1], max_tokens=5, strategy=Guessing(99)), lambda events: None)


def test_an_engine_of_a_toy_model_scores(engine):
    scores = engine.submit_score([1, 2, 3, 6]).result(10)
    best = [token.logprob > -0.1 for token in scores.tokens]
    assert best == [False, True, True]  # 1+2=3, 1+2+3=6
