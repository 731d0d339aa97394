import pytest
from hypothesis import given
from hypothesis import strategies as st

from palimpsest import errors
from palimpsest.status import from_status, to_status

text = st.text(st.characters(codec="utf-8"), max_size=60)


@given(
    cls=st.sampled_from(sorted(errors.BY_CODE.values(), key=lambda c: c.code)),
    reason=st.sampled_from(list(errors.Reason)),
    message=text,
    metadata=st.dictionaries(text, text, max_size=4),
    violations=st.lists(st.builds(errors.Violation, text, text), max_size=4),
    retry_after=st.none() | st.floats(0, 3600),
)
def test_nothing_is_lost_between_server_and_client(cls, reason, message, metadata, violations, retry_after):
    sent = cls(reason, message, metadata=metadata, violations=violations, retry_after=retry_after)
    got = from_status(to_status(sent))
    assert type(got) is cls
    assert (got.reason, got.message, got.metadata) == (sent.reason, sent.message, sent.metadata)
    assert got.violations == sent.violations
    if retry_after is None:
        assert got.retry_after is None
    else:
        assert got.retry_after == pytest.approx(retry_after, abs=2e-9)


def test_an_error_always_fits_the_trailers():
    violations = [errors.Violation("f" * 9000, "d" * 9000)] * 1000
    huge = errors.InvalidArgument("R", "x" * 100_000, violations=violations, metadata={"k": "v" * 9000})
    assert to_status(huge).ByteSize() < 7500


def test_every_status_code_has_its_class():
    assert set(errors.BY_CODE) == {c for c in errors.Code if c is not errors.Code.UNKNOWN}
