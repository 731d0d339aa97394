"""Examples in flat arrays are those that were put in."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from palimpsest.training.batches import Example
from services.unlearning.removal.datasets.packing import PackedExamples

ENTRIES = st.lists(
    st.tuples(
        st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=9).map(tuple),
        st.integers(0, 9),
        st.text(max_size=4),
    ),
    max_size=8,
)


def content(example):
    return example.ids, example.counted, example.name


@settings(deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(ENTRIES, st.slices(8))
def test_they_are_what_tuples_would_be(entries, part):
    packed = PackedExamples()
    for ids, start, name in entries:
        packed.append(ids, start, name)
    plain = [
        Example(ids, tuple(place >= start for place in range(len(ids))), name) for ids, start, name in entries
    ]
    assert [content(each) for each in packed] == [content(each) for each in plain]
    assert [content(each) for each in packed[part]] == [content(each) for each in plain[part]]
    assert (len(packed), packed.tokens) == (len(plain), sum(len(each.ids) for each in plain))
    for at in range(-len(plain), len(plain)):
        assert content(packed[at]) == content(plain[at])
    with pytest.raises(IndexError):
        packed[len(plain)]
