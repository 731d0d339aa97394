"""Which requests share cached prefixes."""

from services.decoding.sharing import prefix_salt


def test_every_caller_and_every_salt_of_theirs_is_apart():
    pairs = [("ann", ""), ("bob", ""), ("ann", "x"), ("bob", "x"), ("annx", ""), ("an", "nx"), ("", "annx")]
    salts = [prefix_salt(*pair, across_callers=False) for pair in pairs]
    assert len(set(salts)) == len(pairs)
    assert salts == [prefix_salt(*pair, across_callers=False) for pair in pairs]
    assert {len(salt) for salt in salts} == {16}


def test_callers_who_trust_each_other_are_kept_apart_by_their_salts_alone():
    assert prefix_salt("ann", "", across_callers=True) == b""
    assert prefix_salt("ann", "x", across_callers=True) == prefix_salt("bob", "x", across_callers=True)
    assert prefix_salt("ann", "x", across_callers=True) != prefix_salt("ann", "y", across_callers=True)


def test_a_principal_may_have_any_name():
    assert prefix_salt("\ud800", "", across_callers=False) != prefix_salt("?", "", across_callers=False)
