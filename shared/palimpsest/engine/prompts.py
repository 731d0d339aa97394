"""Which tokens of the prompts a step reads."""

from palimpsest.engine.events import PrefixReady
from palimpsest.engine.request_state import RequestState
from palimpsest.engine.slack import Room
from palimpsest.lm.blocks import BLOCK
from palimpsest.lm.forward import SequenceInput
from palimpsest.lm.paged_cache import PagedCache


def prompt_chunks(
    states: list[RequestState], left: int, room: Room | None = None
) -> list[tuple[RequestState, SequenceInput]]:
    """Choose the prompt chunks of a step.

    Prompts are read in order of arrival. One that begins like another prompt of this step waits: its blocks will be
    in the prefix index at the next.

    Parameters
    ----------
    states
        Admitted requests whose prompt is being read, in order of arrival.
    left
        Tokens that they may have together.
    room
        Takes the tokens of background requests; None: the requests are interactive.
    """
    chosen: list[tuple[RequestState, SequenceInput]] = []
    upcoming: set[bytes] = set()
    for state in states:
        cache = state.cache
        assert cache is not None
        ids, stop = state.request.ids, len(state.request.ids)
        if state.assembler is not None:
            stop, state.shared = state.assembler.advance(), state.assembler.shared
            report_prefix(state)
            if stop <= cache.length:
                continue
        elif isinstance(cache, PagedCache):
            state.shared += cache.adopt(state.keys)
        if isinstance(cache, PagedCache):
            following = state.keys[cache.length // BLOCK : cache.length // BLOCK + 1]
            if upcoming.intersection(following):
                continue
        count = min(left, stop - cache.length)
        if room is not None:
            count = room.take(count, cache.length)
        if count <= 0:
            break
        if state.assembler is not None:
            state.assembler.begin()
        last = cache.length + count == len(ids)
        chunk = ids[cache.length : cache.length + count]
        strategy = state.request.strategy
        queries = last and strategy is not None and strategy.needs == "retrieval_queries"
        row = SequenceInput(
            cache,
            chunk,
            logits="last" if last else "none",
            retrieval_queries="last" if queries else "none",
        )
        chosen.append((state, row))
        upcoming.update(state.keys[cache.length // BLOCK : (cache.length + count) // BLOCK])
        left -= count
    return chosen


def report_prefix(state: RequestState) -> None:
    """Report once that a request's whole external prefix is in the cache."""
    assembler = state.assembler
    if assembler is not None and assembler.done and not state.prefix_reported:
        state.prefix_reported = True
        assembler.prefix.close()
        state.deliver([PrefixReady(tuple(assembler.origins), assembler.exact_tokens)])
