"""Lists of jobs: filters, stable pages, tokens that only fit their query."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palimpsest.errors import InvalidArgument, Reason
from palimpsest.jobs import JobSpec, JobStore
from palimpsest.jobs.listing import Query, encode_token, parse_query
from tests.unit.jobs.harness import echo


def test_pages_are_newest_first_and_stable_while_jobs_come_and_go(store: JobStore):
    jobs = [store.submit(echo(str(n))).id for n in range(7)]
    first = store.list(page_size=3)
    assert [r.id for r in first.records] == jobs[:3:-1]
    store.submit(echo("newer"))
    store.cancel(jobs[1])
    store.delete(jobs[1])
    second = store.list(page_size=3, page_token=first.next_page_token)
    assert [r.id for r in second.records] == [jobs[3], jobs[2], jobs[0]]
    assert second.next_page_token == ""


def test_filters_by_state_and_kind_follow_every_change(store: JobStore):
    one, two = store.submit(echo()).id, store.submit(echo()).id
    other = store.submit(JobSpec(kind="test.other", request=echo().request)).id
    store.cancel(one)
    assert [r.id for r in store.list("state=QUEUED").records] == [other, two]
    assert [r.id for r in store.list("kind=test.echo").records] == [two, one]
    assert [r.id for r in store.list("kind=test.echo AND state = CANCELLED").records] == [one]
    assert [r.id for r in store.list('state="JOB_STATE_QUEUED" AND kind="test.other"').records] == [other]
    assert store.list("kind=never.heard").records == []
    store.retry(one)
    assert store.list("state=CANCELLED").records == []


def test_a_page_of_large_records_ends_early_and_goes_on(store: JobStore):
    jobs = [store.submit(echo("x" * 900_000 + str(n))).id for n in range(5)]
    seen, token = [], ""
    while True:
        page = store.list(page_token=token)
        assert len(page.records) < 5
        seen += [record.id for record in page.records]
        token = page.next_page_token
        if not token:
            break
    assert seen == jobs[::-1]


def test_a_token_is_bound_to_its_filter():
    token = encode_token(Query(state="QUEUED"), 5)
    assert parse_query("state=QUEUED", 3, token).before == 5
    with pytest.raises(InvalidArgument) as caught:
        parse_query("state=RUNNING", 3, token)
    assert caught.value.reason == Reason.PAGE_TOKEN_INVALID


def test_sizes_are_defaulted_capped_and_checked():
    assert parse_query(page_size=0).page_size == 100
    assert parse_query(page_size=5000).page_size == 1000
    with pytest.raises(InvalidArgument):
        parse_query(page_size=-1)


@pytest.mark.parametrize(
    "text", ["state", "state=", "state=ASLEEP", "owner=me", "state=QUEUED AND state=RUNNING", "AND", "a OR b"]
)
def test_a_filter_that_means_nothing_is_refused(text: str):
    with pytest.raises(InvalidArgument):
        parse_query(text)


@given(st.text(), st.integers(-(2**31), 2**31 - 1), st.text(max_size=50))
def test_no_query_whatsoever_surprises(text: str, size: int, token: str):
    try:
        query = parse_query(text, size, token)
    except InvalidArgument:
        return
    assert 1 <= query.page_size <= 1000
