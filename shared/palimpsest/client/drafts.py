"""Several drafts of one prompt: what a stream of them says, put together as it comes."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from palimpsest.api.decoding.v1 import decoding_pb2 as pb

STRATEGIES = {
    "auto": "auto",
    "superposed": "superposed",
    "verified": "superposed_verified",
    "beam": "beam",
    "diverse": "diverse_beam",
    "nucleus": "nucleus",
}
"""Short names of the strategies, and the contract's, which do as well."""

_SETTINGS = frozenset(pb.DraftSettings.DESCRIPTOR.fields_by_name)
_REQUEST = frozenset({*pb.GenerateRequest.DESCRIPTOR.fields_by_name, "timeout"} - {"drafts"})


@dataclass(frozen=True)
class Draft:
    """A finished draft.

    Parameters
    ----------
    text
        The whole of it; it follows the prompt's text.
    token_ids
        Its tokens. The last one may be what ended it, and no part of the text.
    logprob
        The model's own log-probability of all its tokens, in nats; None where the draft was not read by itself.
    token_logprobs
        That of each token; empty likewise.
    score
        What the search went by, a token: no log-probability where drafts were superposed.
    reason
        Why it ended: "length", "eos" or "stop".
    stop
        The stop string that ended it.
    ngram_share
        Share of the tokens after the first whose n-gram the store has.
    sources
        Where a draft that was quoted comes from.
    slot
        Its place in :attr:`DraftBoard.texts`.
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


@dataclass(frozen=True)
class Plan:
    """What the server decided where the request left it open.

    Parameters
    ----------
    strategy
        By its short name.
    costs
        Seconds expected of each strategy that came into question; empty where the request named one.
    alpha, temperature
        Share of the n-grams in the mixture, 0 for none, and the shared distribution's temperature.
    coverage
        Share of the prompt's end that the store knows; 0 without a store.
    store
        Digest of the store's file.
    healed
        The end of the prompt that was taken back because it ends within a word.
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
    """What one draft has become.

    Parameters
    ----------
    slot
        Which one.
    text
        All of it, now.
    kept
        How many characters at its start were there before.
    """

    slot: int
    text: str
    kept: int


@dataclass
class DraftBoard:
    """The drafts of one stream; takes its events.

    Attributes
    ----------
    texts, token_ids
        Of every draft as it is now, by slot. A draft keeps its slot while it lives; what stands in one may be
        rewritten.
    drafts
        The finished ones, best first.
    plan
        What was decided; None until it is told.
    started
        The message that the prompt has been read; None before.
    summary
        The message that ended the stream; None while it goes on.
    """

    texts: list[str] = field(default_factory=list)
    token_ids: list[list[int]] = field(default_factory=list)
    drafts: list[Draft] = field(default_factory=list)
    plan: Plan | None = None
    started: pb.GenerateStarted | None = None
    summary: pb.DraftsFinished | None = None

    def take(self, event: pb.GenerateResponse) -> DraftUpdate | None:
        """Take the stream's next event; returns what has become of a draft, if it tells of one's text."""
        match event.WhichOneof("event"):
            case "drafts_planned":
                self.plan = _plan(event.drafts_planned)
            case "started":
                self.started = event.started
            case "draft":
                return self._rewrite(event.draft)
            case "draft_finished":
                self.drafts.append(_draft(event.draft_finished))
            case "drafts_finished":
                self.summary = event.drafts_finished
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
    """How many characters two texts begin with alike."""
    pairs = zip(text, other, strict=False)
    return next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(text), len(other)))


def drafts_request(
    *, strategy: str, corpora: Sequence[str], nest: object, fields: Mapping[str, Any]
) -> dict[str, Any]:
    """Fields of ``generate`` for what ``drafts`` takes: those of DraftSettings go into ``drafts``.

    Raises
    ------
    TypeError
        A field that neither has.
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
    return {**asked, "nest": nest, "drafts": settings}


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
