"""What an interactive command says while it waits."""

import threading
from collections.abc import Iterator

import pytest

from palimpsest.api.decoding.v1 import decoding_pb2 as pb
from palimpsest.cli.output import drafts, printing, waiting
from palimpsest.client.drafts import Plan
from tests.waiting import until


@pytest.fixture(autouse=True)
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is said, at once rather than after some seconds."""
    told: list[str] = []
    monkeypatch.setattr(waiting, "PATIENCE", 0.0)
    monkeypatch.setattr(waiting, "note", told.append)
    return told


def test_the_model_that_loads_and_the_prompt_that_is_read_are_said(said: list[str]):
    def events() -> Iterator[pb.GenerateResponse]:
        until(lambda: said)
        yield pb.GenerateResponse(started=pb.GenerateStarted(prompt_tokens=900, cached_tokens=100))
        until(lambda: len(said) == 2)
        yield pb.GenerateResponse(delta=pb.GenerateDelta(text="a"))

    assert [e.WhichOneof("event") for e in waiting.announced(events())] == ["started", "delta"]
    assert said == [f"{waiting.LOADING}…", "Reading a prompt of 800 tokens…"]


def test_nothing_is_said_of_what_comes_soon(said: list[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(waiting, "PATIENCE", 60.0)
    before = threading.active_count()
    with waiting.Waiting():
        pass
    until(lambda: threading.active_count() <= before)
    assert not said


def test_programs_are_told_nothing_of_what_is_waited_for(said: list[str]):
    with printing.for_programs(True), waiting.Waiting() as shown:
        timer = shown._timer
        assert timer is not None
        timer.join()
    assert not said
    assert printing.tells_progress()


class Made:
    """Finished drafts, as far as their description looks."""

    drafts = (1, 2, 3)
    summary = pb.DraftsFinished(lm_forwards=9)

    def __init__(self, strategy: str, **costs: float) -> None:
        self.plan = Plan(strategy, costs, 0.0, 0.0, 0.0, "", b"")


def test_a_choice_against_the_lowest_cost_is_explained():
    against = drafts.how(Made("beam", beam=0.100, superposed=0.098), 0.2)  # type: ignore[arg-type]
    assert "expected: beam 100 ms, superposed 98 ms" in against
    assert "superposed drafts are worse, and would save too little" in against
    for made in (
        Made("superposed", beam=0.2, superposed=0.1),
        Made("beam", beam=0.1, superposed=0.2),
        Made("beam"),
    ):
        assert "worse" not in drafts.how(made, 0.2)  # type: ignore[arg-type]
