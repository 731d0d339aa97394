"""Conversion between the contract's messages and the room's own classes."""

from collections.abc import Iterable
from typing import Any

from palimpsest.api.grafting.v1 import grafting_pb2 as pb
from services.grafting.asking import AskedCase, AskedPatch
from services.grafting.chats import Message, Role
from services.grafting.engine.generating import Decoding
from services.grafting.pairs import Facts
from services.grafting.positions import Selection, Span
from services.grafting.readings import Reading
from services.grafting.sources import Source
from services.grafting.sweeps import Axes, Grid

_PARTS = {
    pb.ROLE_PART_HEADER: "header",
    pb.ROLE_PART_FOOTER: "footer",
    pb.ROLE_PART_WHOLE: "whole",
    pb.ROLE_PART_LAST: "last",
}


def chat_of(messages: Iterable[pb.ChatTurn]) -> tuple[Message, ...]:
    """Return a conversation."""
    return tuple(Message(each.role, each.content) for each in messages)


def selection_of(message: pb.Positions) -> Selection:
    """Return a selection."""
    spans = tuple(Span(s.text, s.occurrence, s.first, s.stop) for s in message.spans)
    roles = tuple(Role(r.role, r.message, _PARTS.get(r.part, "content")) for r in message.roles)
    return Selection(spans, tuple(message.indices), message.everything, message.complement, roles)


def case_of(message: pb.Case) -> AskedCase:
    """Return a case."""
    return AskedCase(
        message.prompt,
        message.target,
        message.continuation != pb.CONTINUATION_BASE,
        message.contrast,
        chat_of(message.chat),
    )


def patch_of(message: pb.GraftPatch) -> AskedPatch:
    """Return a patch."""
    return AskedPatch(
        selection_of(message.positions),
        message.layers.first,
        message.layers.stop,
        tuple(message.components),
        message.restore,
        message.source,
        message.weight if message.HasField("weight") else 1.0,
    )


def decoding_of(message: pb.GenerateGraftedRequest) -> Decoding:
    """Return whose weights act on generated tokens."""
    chosen = {pb.GRAFT_DECODING_BASE: Decoding.BASE, pb.GRAFT_DECODING_DONOR: Decoding.DONOR}
    return chosen.get(message.decoding, Decoding.LAST)


def axes_of(message: pb.SweepAxes) -> Axes:
    """Return the axes of a sweep."""
    return Axes(
        tuple((each.name, selection_of(each.positions)) for each in message.positions),
        message.window,
        message.stride,
        tuple(tuple(each.components) for each in message.components),
        message.subsets,
        tuple(Source(s.source, s.weight if s.HasField("weight") else 1.0) for s in message.sources),
    )


def grid_of(request: pb.SweepGraftsRequest, tokenizer: Any, facts: Facts) -> Grid:
    """Return the checked grid of a sweep.

    Raises
    ------
    InvalidArgument
        As :meth:`Grid.of`.
    """
    donors = (request.pair.donor, *request.pair.others)
    cases = [case_of(each) for each in request.cases]
    return Grid.of(cases, axes_of(request.axes), request.untie, tokenizer, facts, donors)


def reading_message(reading: Reading, tokenizer: Any) -> pb.GraftReading:
    """Return a reading; its most probable token as text."""
    return pb.GraftReading(
        logprob=reading.logprob,
        probability=reading.probability,
        rank=reading.rank,
        ties=reading.ties,
        token_logprobs=reading.token_logprobs,
        top=token_text(tokenizer, reading.top),
        top_probability=reading.top_probability,
        recovery=reading.recovery,
        kl_base=reading.kl_base,
        kl_donor=reading.kl_donor,
    )


def token_text(tokenizer: Any, token: int) -> str:
    """The text of one token; bytes that are no whole character become the replacement character."""
    return tokenizer.decode([token])


def token_texts(tokenizer: Any, ids: Iterable[int]) -> list[str]:
    """The text of each token."""
    return [token_text(tokenizer, token) for token in ids]
