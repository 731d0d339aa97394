"""Who shares cached prefixes with whom: the salts of the engine's requests."""

import hashlib


def prefix_salt(principal: str, cache_salt: str, across_callers: bool) -> bytes:
    """Return the salt of a caller's requests: those with equal salts find each other's cached prefixes, and no others.

    How many tokens of a prompt were cached, and how soon its text begins, tell whether somebody has sent the same
    words before. So nobody but their own caller may learn it.

    Parameters
    ----------
    principal
        The caller.
    cache_salt
        The request's own, by which a caller keeps its users apart; empty: none.
    across_callers
        PALIMPSEST_ENGINE_SHARE_PREFIXES: callers trust each other, and only ``cache_salt`` separates requests.
    """
    owner = "" if across_callers else principal
    if not owner and not cache_salt:
        return b""
    parts = (part.encode(errors="surrogatepass") for part in (owner, cache_salt))
    text = b"".join(len(part).to_bytes(8, "big") + part for part in parts)
    return hashlib.blake2b(text, digest_size=16, person=b"prefix salt").digest()
