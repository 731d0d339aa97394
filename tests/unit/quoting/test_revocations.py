"""Deletions while generations run: what is proposed, told, withdrawn, and when the deleter may go on."""

import dataclasses
import threading

import pytest

from palimpsest.candidates import Owner
from palimpsest.decoding.quoting import Span, SpanRevoked
from palimpsest.decoding.quoting.request import NestRequest
from palimpsest.decoding.quoting.revocations import Revocations
from palimpsest.engine import Delta, Request
from tests.unit.engine.collecting import Collector, Steps, run
from tests.waiting import until

from .test_quoting import EAGER, candidates, check_spans, prompts, spans


def test_a_version_is_dead_from_its_deletion_on():
    told = Revocations()
    assert not told.is_dead("c", "d", 1)
    told.revoke("c", "d", 2)
    assert [told.is_dead("c", "d", v) for v in (1, 2, 3)] == [True, True, False]
    told.revoke("c", "d", 1)
    assert told.is_dead("c", "d", 2)
    assert not told.is_dead("other", "d", 1)
    told.revoke("c", "d")
    told.revoke("c", "d", 5)
    assert told.is_dead("c", "d", 9)
    told.suspend("c")
    assert told.is_dead("c", "anything", 1)
    assert not told.is_dead("other", "anything", 1)


def test_waiting_is_for_those_who_take_part():
    told = Revocations()
    assert told.wait(told.revoke("c", "d"), 0)
    reader = told.join()
    mark = told.revoke("c", "e")
    assert not told.wait(mark, 0)
    waiting = threading.Thread(target=lambda: told.wait(mark, 60))
    waiting.start()
    told.applied(reader, mark)
    waiting.join(10)
    assert not waiting.is_alive()
    later = told.revoke("c", "f")
    assert not told.wait(later, 0)
    told.leave(reader)
    assert told.wait(later, 0)
    forgotten = told.join()
    mark = told.revoke("c", "g")
    assert not told.wait(mark, 0)
    del forgotten
    assert told.wait(mark, 1)


def test_what_is_deleted_before_the_start_is_never_used(make_engine):
    engine = make_engine()
    block = candidates(engine.model)
    told = Revocations()
    told.revoke("corpora/c", "d0")
    for ids in prompts(engine.model):
        result = run(
            engine, Request(ids, max_tokens=50, ignore_eos=True, strategy=NestRequest(block, EAGER, told))
        )[0]
        used = {s.document for span in spans(result, None) for s in span.sources}
        assert "d0" not in used
        check_spans(result, block)
    assert not any(isinstance(e, SpanRevoked) for e in result.events)


class Deleting:
    """A forward pass during which, once, a document is deleted."""

    def __init__(self, engine, told: Revocations, document: str, after: int) -> None:
        self.forward, self.told, self.document, self.left = engine.model.forward, told, document, after
        self.mark = 0
        engine.model.forward = self

    def __call__(self, rows, hidden=()):
        outputs = self.forward(rows, hidden)
        self.left -= 1
        if self.left == 0:
            self.mark = self.told.revoke("corpora/c", self.document)
        return outputs


@pytest.mark.parametrize("after", [1, 2, 3, 5, 8])
def test_what_is_deleted_meanwhile_is_not_used_any_more(make_engine, after):
    engine = make_engine()
    block = candidates(engine.model)
    ids = prompts(engine.model)[0]
    plain = run(engine, Request(ids, max_tokens=60, ignore_eos=True, strategy=NestRequest(block, EAGER)))[0]
    engine.model.pool.forget_prefixes()
    told = Revocations()
    deleting = Deleting(engine, told, "d0", after)
    request = Request(ids, max_tokens=60, ignore_eos=True, strategy=NestRequest(block, EAGER, told))
    result = run(engine, request)[0]
    assert deleting.mark
    assert told.wait(deleting.mark, 5)
    check_spans(result, block)
    # Tokens out before the deletion are those of an undisturbed run; nothing after them is from the document.
    withdrawn = [e for e in result.events if isinstance(e, SpanRevoked)]
    at = result.events.index(withdrawn[0]) if withdrawn else 0
    said = sum(len(e.token_ids) for e in result.events[:at] if isinstance(e, Delta))
    assert (
        result.ids()[: max((e.token_end for e in withdrawn), default=0)]
        == plain.ids()[: max((e.token_end for e in withdrawn), default=0)]
    )
    for event in result.events[at:]:
        if isinstance(event, Span):
            assert "d0" not in {s.document for s in event.sources}
    for event in withdrawn:
        assert event.token_end <= said
        assert event.byte_end <= len(result.finished().text.encode())
    ids_told = {e.id for e in result.events[:at] if isinstance(e, Span) and e.sources[0].document == "d0"}
    assert ids_told <= {e.id for e in withdrawn}
    assert result.finished().quoting.revoked == len(withdrawn)


def test_a_document_with_the_same_bytes_takes_over(make_engine):
    engine = make_engine()
    block = candidates(engine.model)
    twin = [
        Owner(
            "corpora/c",
            "twin",
            4,
            p.byte_start + 100,
            p.char_start + 90,
            p.token_start + 7,
            "Twin",
            "u",
            "1" * 64,
        )
        for p in block.passages
    ]
    block.passages = tuple(
        dataclasses.replace(p, owners=(o,)) for p, o in zip(block.passages, twin, strict=True)
    )
    ids = prompts(engine.model)[0]
    told = Revocations()
    before = run(
        engine, Request(ids, max_tokens=40, ignore_eos=True, strategy=NestRequest(block, EAGER, told))
    )[0]
    for span in spans(before):
        own, other = span.sources
        assert (other.document, other.version, other.passage) == ("twin", 4, -1)
        assert other.byte_start - own.byte_start == 100
        assert other.char_start - own.char_start == 90
        assert other.token_start - own.token_start == 7
        assert other.sha256 == own.sha256
    Deleting(engine, told, "d0", 6)
    result = run(
        engine, Request(ids, max_tokens=40, ignore_eos=True, strategy=NestRequest(block, EAGER, told))
    )[0]
    assert result.ids() == before.ids()  # nothing is lost
    final = {e.id: e for e in result.events if isinstance(e, Span)}
    assert {s.document for e in final.values() for s in e.sources} <= {"twin", "d1", "d2"}
    assert not any(isinstance(e, SpanRevoked) for e in result.events)
    told.revoke("corpora/c", "twin", 4)
    after = run(
        engine, Request(ids, max_tokens=40, ignore_eos=True, strategy=NestRequest(block, EAGER, told))
    )[0]
    assert not {"twin", "d0"} & {s.document for e in spans(after, None) for s in e.sources}


def test_a_deletion_waits_for_the_step_under_way_and_no_longer(make_engine):
    engine = make_engine()
    block = candidates(engine.model)
    told = Revocations()
    collector = Collector()
    request = Request(
        prompts(engine.model)[0], max_tokens=400, ignore_eos=True, strategy=NestRequest(block, EAGER, told)
    )
    engine.submit(request, collector.deliver)
    until(lambda: bool(collector.deltas()))
    steps = Steps(engine)
    steps.wait_for_one()
    mark = told.revoke("corpora/c", "d0")
    assert not told.wait(mark, 0)
    steps.let_one_end()
    steps.wait_for_one()
    assert told.wait(mark, 0)  # while the next step is held
    steps.let_all_end()
    collector.wait()
    cancelled = Collector()
    handle = engine.submit(request, cancelled.deliver)
    until(lambda: bool(cancelled.deltas()))
    handle.cancel()
    until(lambda: engine.idle)
    assert told.wait(told.revoke("corpora/c", "d1"), 0)


def test_a_deletion_counts_as_applied_only_when_its_revocations_have_been_delivered(make_engine, monkeypatch):
    engine = make_engine()
    block = candidates(engine.model)
    told, collector, delivered = Revocations(), Collector(), []
    applied = told.applied

    def report(reader, version):
        if version and reader.seen != version:
            delivered.append(any(isinstance(event, SpanRevoked) for event in collector.events))
        applied(reader, version)

    monkeypatch.setattr(told, "applied", report)
    request = Request(
        prompts(engine.model)[0], max_tokens=400, ignore_eos=True, strategy=NestRequest(block, EAGER, told)
    )
    engine.submit(request, collector.deliver)
    until(lambda: any(isinstance(event, Span) for event in collector.events))
    for source in {s.document for e in list(collector.events) if isinstance(e, Span) for s in e.sources}:
        mark = told.revoke("corpora/c", source)
    assert told.wait(mark, 60)
    collector.wait()
    assert delivered
    assert delivered[-1]
