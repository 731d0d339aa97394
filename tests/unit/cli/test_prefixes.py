"""Ids by their first characters."""

import pytest

from palimpsest.cli.input.prefixes import completed
from palimpsest.errors import InvalidArgument

IDS = ["abcdef01", "abcdef02", "abd00000"]


def refuse() -> list[str]:
    raise AssertionError("nothing should be listed")


@pytest.mark.parametrize(
    ("given", "found"), [("abd0", "abd00000"), ("abcdef02", "abcdef02"), ("ffff", "ffff")]
)
def test_the_one_id_that_begins_so_is_meant(given: str, found: str):
    assert completed(given, 8, lambda: IDS) == found


@pytest.mark.parametrize("given", ["", "abd", "abd00000"])
def test_what_is_too_short_or_whole_is_not_looked_up(given: str):
    assert completed(given, 8, refuse) == given


def test_several_that_begin_so_are_named():
    with pytest.raises(InvalidArgument, match="2 ids begin with 'abcdef0': abcdef01, abcdef02"):
        completed("abcdef0", 8, lambda: IDS)
