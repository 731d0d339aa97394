"""Running requests for drafts step by step, without an engine's thread, and putting deltas together again."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from palimpsest.decoding.drafts import Draft, DraftDelta, DraftRequest, DraftSettings
from palimpsest.decoding.drafts.events import DraftsEnd
from palimpsest.engine import Event, Request
from palimpsest.engine.batch import Batch, Counters
from palimpsest.engine.budget import CacheBudget
from palimpsest.engine.costs import StepCost
from palimpsest.engine.limits import check_request
from palimpsest.engine.request_state import RequestState
from palimpsest.engine.slack import Slack
from palimpsest.lm import LanguageModel
from palimpsest.lm.blocks import prefix_keys

PROMPTS = [
    "the quick brown",
    "fox",
    "jumps over the lazy dog the quick",
    "Fixtures every kind of test shares: a",
    "naïve 雪",
]


def prompt(model: LanguageModel, text: str) -> list[int]:
    return model.tokenizer(text, add_special_tokens=False).input_ids


def wanted(ids: Sequence[int], settings: DraftSettings, count: int = 10, plan=None, **more) -> Request:
    """A request for drafts; ``plan`` holds what the drafting has beside its settings."""
    return Request(ids, max_tokens=count, strategy=DraftRequest(settings, **(plan or {})), **more)


class Told:
    """Everything that one request told, step by step."""

    def __init__(self) -> None:
        self.steps: list[list[Event]] = []

    @property
    def events(self) -> list[Event]:
        return [event for step in self.steps for event in step]

    @property
    def drafts(self) -> list[Draft]:
        return [event for event in self.events if isinstance(event, Draft)]

    @property
    def deltas(self) -> list[DraftDelta]:
        return [event for event in self.events if isinstance(event, DraftDelta)]

    @property
    def end(self) -> DraftsEnd:
        (found,) = [event for event in self.events if isinstance(event, DraftsEnd)]
        assert self.events[-1] is found
        return found

    @property
    def ids(self) -> list[tuple[int, ...]]:
        return [draft.ids for draft in self.drafts]

    @property
    def timeless(self) -> list[Event]:
        """All but what was measured."""
        seconds = dict.fromkeys(("draft_seconds", "verify_seconds", "search_seconds", "lookup_seconds"), 0.0)
        return [replace(e, **seconds) if isinstance(e, DraftsEnd) else e for e in self.events]

    def rebuilt(self) -> dict[int, tuple[str, tuple[int, ...]]]:
        """Text and ids of each place, by the deltas alone."""
        places: dict[int, tuple[str, tuple[int, ...]]] = {}
        for delta in self.deltas:
            text, ids = places.get(delta.slot, ("", ()))
            assert 0 <= delta.keep_chars <= len(text)
            assert 0 <= delta.keep_tokens <= len(ids)
            places[delta.slot] = (text[: delta.keep_chars] + delta.text, ids[: delta.keep_tokens] + delta.ids)
        return places


def run(
    model: LanguageModel, *requests: Request, after: Callable[[int, list[RequestState]], None] | None = None
) -> list[Told]:
    """Run requests in one batch to their ends; ``after`` is called after each step with its number."""
    budget = CacheBudget(model.limits.cache_blocks)
    batch = Batch(model, 1 << 20, budget, Counters(), StepCost(), Slack())
    told, handles = [Told() for _ in requests], []
    for request, one in zip(requests, told, strict=True):
        blocks = check_request(model, request)
        deliver = lambda events, steps=one.steps: steps.append(list(events))  # noqa: E731
        handles.append(RequestState(request, deliver, blocks, prefix_keys(request.ids[:-1]), lambda: None))
        assert batch.admit(handles[-1])
    step = 0
    while batch.states:
        batch.step()
        if after is not None:
            after(step, handles)
            batch.drop_ended()
        step += 1
    assert budget.used == 0
    return told
