"""Requests for drafts and their events, as the contract's messages."""

from collections.abc import Sequence

from palimpsest.api.decoding.v1 import decoding_pb2 as pb
from palimpsest.decoding.drafts import (
    Draft,
    DraftDelta,
    DraftsEnd,
    DraftSettings,
    DraftStrategy,
    StopAt,
    Streaming,
)
from palimpsest.engine import Request
from palimpsest.errors import InvalidArgument, Reason
from services.decoding.constraints import refuse_constraints
from services.decoding.convert import DRAFT, FINISH_REASONS, Call, sampling_of
from services.decoding.quoting.messages import source_message

DEFAULT_K, DEFAULT_MAX_TOKENS = 3, 10
"""Drafts and tokens of each where a request leaves them open: what superposed drafts are good for."""

STRATEGIES = {
    pb.DraftSettings.STRATEGY_SUPERPOSED: DraftStrategy.SUPERPOSED,
    pb.DraftSettings.STRATEGY_SUPERPOSED_VERIFIED: DraftStrategy.SUPERPOSED_VERIFIED,
    pb.DraftSettings.STRATEGY_BEAM: DraftStrategy.BEAM,
    pb.DraftSettings.STRATEGY_DIVERSE_BEAM: DraftStrategy.DIVERSE_BEAM,
    pb.DraftSettings.STRATEGY_NUCLEUS: DraftStrategy.NUCLEUS,
}
NUMBERS = {strategy: number for number, strategy in STRATEGIES.items()}
_STOPS = {
    pb.DraftSettings.STOP_AT_UNSPECIFIED: StopAt.NONE,
    pb.DraftSettings.STOP_AT_WORD: StopAt.WORD,
    pb.DraftSettings.STOP_AT_SENTENCE: StopAt.SENTENCE,
    pb.DraftSettings.STOP_AT_LINE: StopAt.LINE,
}
_STREAMING = {
    pb.DraftSettings.STREAMING_UNSPECIFIED: Streaming.REWRITES,
    pb.DraftSettings.STREAMING_COMMITTED_ONLY: Streaming.COMMITTED,
    pb.DraftSettings.STREAMING_WITH_REWRITES: Streaming.REWRITES,
    pb.DraftSettings.STREAMING_FINAL_ONLY: Streaming.FINAL,
}


def request_of(message: pb.DraftRequest, ids: Sequence[int]) -> Request:
    """The engine's request, without its strategy.

    Parameters
    ----------
    message
        The caller's request.
    ids
        The prompt's tokens.

    Raises
    ------
    InvalidArgument
        SETTING_UNSUPPORTED.
    """
    refuse_constraints(message, "Draft")
    return Request(
        ids=ids,
        sampling=sampling_of(message.sampling),
        max_tokens=message.max_tokens or DEFAULT_MAX_TOKENS,
        stop=tuple(message.stop),
        ignore_eos=message.ignore_eos,
    )


def settings_of(message: pb.DraftRequest, quotes: bool = False) -> DraftSettings:
    """The settings that a request names. AUTO counts as SUPERPOSED until the planner has decided.

    Parameters
    ----------
    message
        The caller's request.
    quotes
        Whether quotations compete with the drafts. Only SUPERPOSED_VERIFIED ranks them, and AUTO means that then.

    Raises
    ------
    InvalidArgument
        DRAFT_SETTINGS_INVALID.
    """
    given = message.settings
    verified = DraftStrategy.SUPERPOSED_VERIFIED
    strategy = STRATEGIES.get(given.strategy, verified if quotes else DraftStrategy.SUPERPOSED)
    if quotes and strategy is not verified:
        # Refused before retrieval: whether a passage is found must not decide what is allowed.
        raise InvalidArgument.field(
            Reason.DRAFT_SETTINGS_INVALID,
            "settings.strategy",
            "Only SUPERPOSED_VERIFIED ranks quotations. Choose it, or leave nest unset.",
        )
    settings = DraftSettings(
        k=message.k or DEFAULT_K,
        strategy=strategy,
        over_generate=given.over_generate,
        reset_every=given.reset_every,
        exact=given.exact,
        stop_at=_STOPS[given.stop_at],
        streaming=_STREAMING[given.streaming],
        **{name: getattr(given, name) for name in ("temperature", "diversity") if given.HasField(name)},
    )
    settings.check()
    return settings


@DRAFT.converts(DraftDelta)
def _delta(event: DraftDelta, call: Call) -> pb.DraftResponse:
    return pb.DraftResponse(
        delta=pb.DraftDelta(
            draft=event.slot,
            keep_tokens=event.keep_tokens,
            keep_chars=event.keep_chars,
            text=event.text,
            token_ids=event.ids,
        )
    )


@DRAFT.converts(Draft)
def _finished(event: Draft, call: Call) -> pb.DraftResponse:
    return pb.DraftResponse(
        finished=pb.DraftFinished(
            draft=event.slot,
            rank=event.rank,
            text=event.text,
            token_ids=event.ids,
            reason=FINISH_REASONS[event.reason],
            stop=event.stop,
            logprob=event.logprob,
            token_logprobs=event.logprobs or (),
            score=event.score,
            ngram_share=event.ngram_share,
            sources=[source_message(source) for source in event.sources],
        )
    )


@DRAFT.converts(DraftsEnd)
def _summary(event: DraftsEnd, call: Call) -> pb.DraftResponse:
    return pb.DraftResponse(
        summary=pb.DraftsFinished(
            made=event.made,
            dropped=event.dropped,
            lm_forwards=event.steps,
            lm_positions=event.positions,
            verified_positions=event.verified_positions,
            overlap=event.overlap,
            draft_seconds=event.draft_seconds,
            verify_seconds=event.verify_seconds,
            search_seconds=event.search_seconds,
            lookup_seconds=event.lookup_seconds,
        )
    )
