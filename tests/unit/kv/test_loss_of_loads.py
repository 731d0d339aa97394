"""The loss of a load, by the definition, and as the server's side counts it."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from palimpsest.kv.plan import Chunk, Load, Option, loss_of_chunks
from services.codec.loads.deliveries import Deliveries

CHUNKS = st.lists(st.tuples(st.integers(1, 2000), st.none() | st.floats(0, 5)), min_size=1, max_size=12)


@settings(deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(CHUNKS)
def test_what_is_recomputed_has_the_largest_loss_of_what_it_follows(chunks):
    counted = [
        (
            tokens,
            own
            if own is not None
            else max((before for _, before in chunks[:at] if before is not None), default=0.0),
        )
        for at, (tokens, own) in enumerate(chunks)
    ]
    expected = sum(tokens * own for tokens, own in counted) / sum(tokens for tokens, _ in chunks)
    assert loss_of_chunks(iter(chunks)) == pytest.approx(expected)


@settings(deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(CHUNKS)
def test_the_server_counts_it_of_what_it_sent(chunks):
    load = Load(
        tuple(Chunk(tokens, 1.0, (Option("fine", 1, own or 0.0, 0.0),)) for tokens, own in chunks),
        deadline=1.0,
    )
    deliveries = Deliveries(load)
    for at, (_, own) in enumerate(chunks):
        if own is not None:
            deliveries.begin(at, "fine")
    assert deliveries.loss == loss_of_chunks(chunks)
