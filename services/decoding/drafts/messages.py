"""Drafts as the contract's messages: how they are asked for, and how they come along."""

from dataclasses import replace

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
from palimpsest.engine import Finish
from palimpsest.errors import InvalidArgument, Reason, Violation
from services.decoding.quoting.messages import source_message

Drafts = pb.DraftSettings

REASONS = {
    Finish.LENGTH: pb.FINISH_REASON_LENGTH,
    Finish.EOS: pb.FINISH_REASON_EOS,
    Finish.STOP: pb.FINISH_REASON_STOP,
}

STRATEGIES = {
    Drafts.STRATEGY_SUPERPOSED: DraftStrategy.SUPERPOSED,
    Drafts.STRATEGY_SUPERPOSED_VERIFIED: DraftStrategy.SUPERPOSED_VERIFIED,
    Drafts.STRATEGY_BEAM: DraftStrategy.BEAM,
    Drafts.STRATEGY_DIVERSE_BEAM: DraftStrategy.DIVERSE_BEAM,
    Drafts.STRATEGY_NUCLEUS: DraftStrategy.NUCLEUS,
}
NUMBERS = {strategy: number for number, strategy in STRATEGIES.items()}
_STOPS = {
    Drafts.STOP_AT_UNSPECIFIED: StopAt.NONE,
    Drafts.STOP_AT_WORD: StopAt.WORD,
    Drafts.STOP_AT_SENTENCE: StopAt.SENTENCE,
    Drafts.STOP_AT_LINE: StopAt.LINE,
}
_STREAMING = {
    Drafts.STREAMING_UNSPECIFIED: Streaming.REWRITES,
    Drafts.STREAMING_COMMITTED_ONLY: Streaming.COMMITTED,
    Drafts.STREAMING_WITH_REWRITES: Streaming.REWRITES,
    Drafts.STREAMING_FINAL_ONLY: Streaming.FINAL,
}


def settings_of(message: Drafts, quotes: bool = False) -> DraftSettings:
    """Settings as far as the message says them; AUTO counts as SUPERPOSED until it is decided.

    Parameters
    ----------
    message
        The request's.
    quotes
        Whether quotations are judged beside the drafts, which SUPERPOSED_VERIFIED alone does; AUTO is that then.

    Raises
    ------
    InvalidArgument
        DRAFT_SETTINGS_INVALID.
    """
    given = {
        name: getattr(message, name)
        for name in ("temperature", "penalty", "diversity", "floor", "first_temperature")
        if message.HasField(name)
    }
    verified = DraftStrategy.SUPERPOSED_VERIFIED
    strategy = STRATEGIES.get(message.strategy, verified if quotes else DraftStrategy.SUPERPOSED)
    if quotes and strategy is not verified:
        # Said before anything is looked for: whether something is found must not decide what is allowed.
        raise InvalidArgument.field(
            Reason.DRAFT_SETTINGS_INVALID,
            "drafts.strategy",
            "Quotations are judged beside drafts by SUPERPOSED_VERIFIED alone; choose it, or leave nest out.",
        )
    settings = DraftSettings(
        k=message.k or 3,
        strategy=strategy,
        candidates=message.candidates,
        over_generate=message.over_generate,
        reset_every=message.reset_every,
        exact=message.exact,
        stop_at=_STOPS[message.stop_at],
        streaming=_STREAMING[message.streaming],
        **given,
    )
    if message.order_weights:
        settings = replace(settings, order_weights=tuple(message.order_weights))
    settings.check()
    return settings


def check_drafts(message: pb.GenerateRequest) -> None:
    """Refuse what goes with a single text only.

    Raises
    ------
    InvalidArgument
        DRAFT_SETTINGS_INVALID, naming the field.
    """
    given = {
        "n": message.n > 1,
        "logprobs": message.HasField("logprobs") and message.logprobs > 0,
        "context": bool(message.context),
    }
    for field, set_ in given.items():
        if set_:
            raise InvalidArgument(
                Reason.DRAFT_SETTINGS_INVALID,
                f"{field} does not go with drafts; leave it out.",
                violations=[Violation(field, "goes with a single text only")],
            )


def draft_response(event: DraftDelta | Draft | DraftsEnd) -> pb.GenerateResponse:
    """One event of a stream of drafts."""
    match event:
        case DraftDelta():
            return pb.GenerateResponse(
                draft=pb.DraftDelta(
                    draft=event.slot,
                    keep_tokens=event.keep_tokens,
                    keep_chars=event.keep_chars,
                    text=event.text,
                    token_ids=event.ids,
                )
            )
        case Draft():
            return pb.GenerateResponse(
                draft_finished=pb.DraftFinished(
                    draft=event.slot,
                    rank=event.rank,
                    text=event.text,
                    token_ids=event.ids,
                    reason=REASONS[event.reason],
                    stop=event.stop,
                    logprob=event.logprob,
                    token_logprobs=event.logprobs or (),
                    score=event.score,
                    ngram_share=event.ngram_share,
                    sources=[source_message(source) for source in event.sources],
                )
            )
        case DraftsEnd():
            return pb.GenerateResponse(
                drafts_finished=pb.DraftsFinished(
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
