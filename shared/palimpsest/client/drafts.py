"""Several drafts of one prompt: the events of their stream, assembled into the drafts' present text."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from palimpsest.api.decoding.v1 import decoding_pb2 as pb
from palimpsest.client.notebooks import link, table
from palimpsest.client.requests import short_fields

STRATEGIES = {
    "auto": "auto",
    "superposed": "superposed",
    "verified": "superposed_verified",
    "beam": "beam",
    "diverse": "diverse_beam",
    "nucleus": "nucleus",
}
"""Short names of the strategies, and the contract's names, which work as well."""

_SETTINGS = frozenset(pb.DraftSettings.DESCRIPTOR.fields_by_name)
_SHORT_FORMS = {name for name, _ in short_fields(pb.DraftRequest.DESCRIPTOR)}
_REQUEST = frozenset({*pb.DraftRequest.DESCRIPTOR.fields_by_name, *_SHORT_FORMS, "timeout"} - {"settings"})


@dataclass(frozen=True)
class Draft:
    """A finished draft.

    Parameters
    ----------
    text
        Its whole text, which follows the prompt's.
    token_ids
        Its tokens. The last one may be the token that ended it and contribute no text.
    logprob
        The model's log-probability of all its tokens, in nats; None where the draft was not scored on its own.
    token_logprobs
        The log-probability of each token; empty where ``logprob`` is None.
    score
        The search's own score, a mean over tokens. Not a log-probability where drafts were superposed.
    reason
        Why it ended: "length", "eos" or "stop".
    stop
        The stop string that ended it.
    ngram_share
        Fraction of the tokens after the first whose n-gram is in the store.
    sources
        The documents that a quoted draft comes from.
    slot
        Its index in :attr:`DraftBoard.texts`.
    """

    text: str
    token_ids: tuple[int, ...]
    logprob: float | None
    token_logprobs: tuple[float, ...]
    score: float
    reason: str
    stop: str
    ngram_share: float
    sources: tuple[pb.QuoteSource, ...]
    slot: int


class Drafts(list[Draft]):
    """Finished drafts, best first; a notebook shows them as a table."""

    def _repr_html_(self) -> str:
        rows = [
            (rank, f"{draft.score if draft.logprob is None else draft.logprob:.3f}", draft.reason, draft.text)
            for rank, draft in enumerate(self, 1)
        ]
        sources = {(s.corpus, s.document): s for draft in self for s in draft.sources}
        items = "".join(f"<li>{link(s.title or s.document, s.uri)}</li>" for s in sources.values())
        kind = "log-probability" if any(draft.logprob is not None for draft in self) else "score"
        return table(("rank", kind, "ended by", "draft"), rows) + (f"<ul>{items}</ul>" if items else "")


@dataclass(frozen=True)
class Plan:
    """What the server decided where the request left a choice.

    Parameters
    ----------
    strategy
        Its short name.
    costs
        Expected seconds of each strategy that "auto" compared; empty where the request named one.
    alpha, temperature
        Weight of the n-grams in the mixture (0: not used), and the temperature of the superposed distribution.
    coverage
        Fraction of the prompt's end that the store covers; 0 without a store.
    store
        Digest of the store's file.
    healed
        Bytes removed from the prompt's end because it ends within a word.
    """

    strategy: str
    costs: Mapping[str, float]
    alpha: float
    temperature: float
    coverage: float
    store: str
    healed: bytes


@dataclass(frozen=True)
class DraftUpdate:
    """The new text of one draft.

    Parameters
    ----------
    slot
        Which draft.
    text
        Its whole text now.
    kept
        How many characters at its start are unchanged.
    """

    slot: int
    text: str
    kept: int


@dataclass
class DraftBoard:
    """The drafts of one stream, updated by its events.

    Attributes
    ----------
    texts, token_ids
        Every draft as it is now, by slot. A draft keeps its slot while it lives; the text in a slot may be rewritten.
    drafts
        The finished drafts, best first.
    plan
        What the server decided; None before the first event.
    started
        The event that followed the prompt's prefill; None before it.
    summary
        The event that ended the stream; None while it runs.
    """

    texts: list[str] = field(default_factory=list)
    token_ids: list[list[int]] = field(default_factory=list)
    drafts: Drafts = field(default_factory=Drafts)
    plan: Plan | None = None
    started: pb.GenerateStarted | None = None
    summary: pb.DraftsFinished | None = None

    def take(self, event: pb.DraftResponse) -> DraftUpdate | None:
        """Apply the stream's next event; returns the changed draft if the event changes one's text."""
        match event.WhichOneof("event"):
            case "planned":
                self.plan = _plan(event.planned)
            case "started":
                self.started = event.started
            case "delta":
                return self._rewrite(event.delta)
            case "finished":
                self.drafts.append(_draft(event.finished))
            case "summary":
                self.summary = event.summary
        return None

    def _rewrite(self, delta: pb.DraftDelta) -> DraftUpdate:
        slot = delta.draft
        while len(self.texts) <= slot:
            self.texts.append("")
            self.token_ids.append([])
        self.texts[slot] = self.texts[slot][: delta.keep_chars] + delta.text
        self.token_ids[slot] = [*self.token_ids[slot][: delta.keep_tokens], *delta.token_ids]
        return DraftUpdate(slot, self.texts[slot], delta.keep_chars)


def shared_length(text: str, other: str) -> int:
    """Length of two texts' common prefix, in characters."""
    pairs = zip(text, other, strict=False)
    return next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(text), len(other)))


def drafts_request(
    *, strategy: str, corpora: Sequence[str], nest: object, fields: Mapping[str, Any]
) -> dict[str, Any]:
    """Fields of ``draft`` for the keywords of ``drafts``: those of DraftSettings go into ``settings``.

    Raises
    ------
    TypeError
        A field that neither message has.
    """
    for name in fields:
        if name not in _SETTINGS | _REQUEST:
            close = difflib.get_close_matches(name, _SETTINGS | _REQUEST, n=1, cutoff=0.5)
            hint = f"; did you mean {close[0]}?" if close else "."
            raise TypeError(f"drafts() has no field {name}{hint}")
    settings = {name: value for name, value in fields.items() if name in _SETTINGS}
    settings["strategy"] = STRATEGIES.get(strategy, strategy)
    asked = {name: value for name, value in fields.items() if name not in _SETTINGS}
    if corpora:
        quoting = pb.NestSettings()
        if isinstance(nest, pb.NestSettings):
            quoting.CopyFrom(nest)
            quoting.corpora[:] = corpora
            nest = quoting
        else:
            nest = {**(nest if isinstance(nest, Mapping) else {}), "corpora": list(corpora)}
    return {**asked, "nest": nest, "settings": settings}


def _plan(message: pb.DraftsPlanned) -> Plan:
    return Plan(
        strategy=_strategy(message.strategy),
        costs={_strategy(cost.strategy): cost.seconds for cost in message.costs},
        alpha=message.alpha,
        temperature=message.temperature,
        coverage=message.coverage,
        store=message.store,
        healed=message.healed,
    )


_SHORT = {long: short for short, long in STRATEGIES.items()}


def _strategy(number: pb.DraftSettings.Strategy) -> str:
    name = pb.DraftSettings.Strategy.Name(number).removeprefix("STRATEGY_").lower()
    return _SHORT.get(name, name)


_ENDS = {pb.FINISH_REASON_LENGTH: "length", pb.FINISH_REASON_EOS: "eos", pb.FINISH_REASON_STOP: "stop"}


def _draft(message: pb.DraftFinished) -> Draft:
    return Draft(
        text=message.text,
        token_ids=tuple(message.token_ids),
        logprob=message.logprob if message.HasField("logprob") else None,
        token_logprobs=tuple(message.token_logprobs),
        score=message.score,
        reason=_ENDS.get(message.reason, ""),
        stop=message.stop,
        ngram_share=message.ngram_share,
        sources=tuple(message.sources),
        slot=message.draft,
    )
