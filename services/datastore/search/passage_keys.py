"""Token keys of passages: storing keys that a caller computed, and finding passages without keys."""

from typing import NamedTuple

import numpy as np

from palimpsest.errors import InvalidArgument, NotFound, Reason
from services.datastore.store.catalogue import OpenCorpus
from services.datastore.store.keystore import KeyBlock


class MissingKeys(NamedTuple):
    """A distinct passage without keys: its digest, its token ids, and the token ids before it."""

    digest: bytes
    tokens: list[int]
    left_context: list[int]


def put_keys(
    opened: OpenCorpus,
    document: str,
    version: int,
    passage: int,
    keys: bytes,
    scales: bytes,
    norms: bytes,
    fingerprint: str,
) -> bool:
    """Store the keys of one passage of n tokens; False if the passage was deleted.

    Parameters
    ----------
    opened
        The corpus, with keys of ``key_size`` elements.
    document, version, passage
        The passage.
    keys, scales, norms
        int8 [n, key_size] row-major, float32 [n] and float32 [n], little-endian.
    fingerprint
        Fingerprint of the model that computed the keys.

    Raises
    ------
    InvalidArgument
        KEYS_INVALID: there is no such passage, or the arrays do not match it.
    FailedPrecondition
        CORPUS_MODEL_MISMATCH.
    """
    corpus, store = opened
    try:
        found = corpus.find(document, version).document
    except NotFound:
        return False
    if passage >= found.passages:
        raise InvalidArgument(
            Reason.KEYS_INVALID,
            f"{document!r} has {found.passages} passages, numbered from 0; there is no passage {passage}.",
        )
    first, end = found.span(passage)
    count, size = end - first, corpus.spec.key_size
    if (len(keys), len(scales), len(norms)) != (count * size, 4 * count, 4 * count):
        raise InvalidArgument(
            Reason.KEYS_INVALID,
            f"Passage {passage} of {document!r} has {count} tokens. Send keys as int8 [{count}, {size}], scales and "
            f"norms as float32 [{count}]; got {len(keys)}, {len(scales)} and {len(norms)} bytes.",
            metadata={"tokens": count, "key_size": size},
        )
    block = KeyBlock(
        np.frombuffer(keys, np.int8).reshape(count, size),  # [n, key_size] int8
        np.frombuffer(scales, "<f4"),  # [n] float32
        np.frombuffer(norms, "<f4"),  # [n] float32
    )
    store.put(found.digest(passage), block, fingerprint)
    return True


def without_keys(opened: OpenCorpus) -> list[MissingKeys]:
    """The distinct passages of a corpus that have no keys."""
    corpus, keys = opened
    left, missing, seen = corpus.spec.left_context, [], set()
    for found in corpus.documents():
        document = found.document
        for passage in range(document.passages):
            digest = document.digest(passage)
            if digest not in seen and not keys.has(digest):
                first, end = document.span(passage)
                before = document.tokens[max(0, first - left) : first].tolist()
                missing.append(MissingKeys(digest, document.tokens[first:end].tolist(), before))
            seen.add(digest)
    return missing
