"""Roots and proofs against the definition of RFC 6962, as it is written there, and against published values."""

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palimpsest.certificates import merkle

# The leaves and roots that the tests of Certificate Transparency's own implementations use.
LEAVES = [
    bytes.fromhex(text)
    for text in (
        "", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f",
    )
]  # fmt: skip
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def mth(data):
    """The Merkle tree hash of RFC 6962, section 2.1, word for word."""
    if not data:
        return hashlib.sha256(b"").digest()
    if len(data) == 1:
        return hashlib.sha256(b"\x00" + data[0]).digest()
    k = 1
    while k * 2 < len(data):
        k *= 2
    return hashlib.sha256(b"\x01" + mth(data[:k]) + mth(data[k:])).digest()


def path(m, data):
    """The audit path of RFC 6962, section 2.1.1, word for word."""
    if len(data) == 1:
        return []
    k = 1
    while k * 2 < len(data):
        k *= 2
    if m < k:
        return [*path(m, data[:k]), mth(data[k:])]
    return [*path(m - k, data[k:]), mth(data[:k])]


def hashes(data):
    return [merkle.leaf_hash(each) for each in data]


@pytest.mark.parametrize("count", range(9))
def test_published_roots(count):
    assert merkle.root_of(hashes(LEAVES[:count])).hex() == ROOTS[count]


@pytest.mark.parametrize("count", [*range(1, 18), 31, 32, 33, 100])
def test_roots_and_proofs_are_the_definitions(count):
    data = [b"%d" % at for at in range(count)]
    leaves = hashes(data)
    root = merkle.root_of(leaves)
    assert root == mth(data)
    for at in range(count):
        found = merkle.inclusion_path(leaves, at)
        assert found == path(at, data)
        assert merkle.root_from_path(leaves[at], at, count, found) == root


@settings(derandomize=True, deadline=None)
@given(size=st.integers(1, 70), data=st.data())
def test_a_proof_is_of_one_leaf_at_one_place(size, data):
    leaves = hashes([b"%d" % at for at in range(size)])
    root = merkle.root_of(leaves)
    index = data.draw(st.integers(0, size - 1))
    found = merkle.inclusion_path(leaves, index)
    other = data.draw(st.integers(0, size - 1).filter(lambda at: at != index)) if size > 1 else size
    assert merkle.root_from_path(leaves[index], other, size, found) != root
    assert merkle.root_from_path(merkle.leaf_hash(b"x"), index, size, found) != root
    assert merkle.root_from_path(leaves[index], index, size, [*found, root]) is None
    if found:
        assert merkle.root_from_path(leaves[index], index, size, found[:-1]) != root
        at = data.draw(st.integers(0, len(found) - 1))
        changed = [*found[:at], merkle.leaf_hash(found[at]), *found[at + 1 :]]
        assert merkle.root_from_path(leaves[index], index, size, changed) != root


@pytest.mark.parametrize("index", [-1, 3])
def test_there_is_no_proof_of_what_is_not_there(index):
    with pytest.raises(IndexError):
        merkle.inclusion_path(hashes([b"a", b"b", b"c"]), index)
    assert merkle.root_from_path(merkle.leaf_hash(b"a"), index, 3, []) is None


def test_an_inner_node_is_no_leaf():
    left, right = hashes([b"a", b"b"])
    assert merkle.leaf_hash(left + right) != merkle.node_hash(left, right)
