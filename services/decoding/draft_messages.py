"""Drafts and how they come along, as the contract's messages."""

from palimpsest.api.decoding.v1 import decoding_pb2 as pb
from palimpsest.inference import Draft, DraftDelta, DraftsEnd, Finish
from services.decoding.spans import source_message

REASONS = {
    Finish.LENGTH: pb.FINISH_REASON_LENGTH,
    Finish.EOS: pb.FINISH_REASON_EOS,
    Finish.STOP: pb.FINISH_REASON_STOP,
}


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
