"""Where each part of an artefact lies; every name is made from a digest, never from a caller's string.

::

    blobs/<ab>/<64 hex>        the bytes
    pieces/<ab>/<64 hex>       SHA-256 of each 1 MiB of a blob larger than that
    meta/<ab>/<64 hex>.json    sidecar, written last and deleted first: an artefact exists if this does
    quarantine/<64 hex>        a damaged blob, kept aside for the grace time
"""

from palimpsest.artifacts.digests import CHUNK_BYTES, Hashes, hex_of
from palimpsest.artifacts.info import ArtifactInfo
from palimpsest.artifacts.objects import Objects


def blob_name(digest: str) -> str:
    """Name of the bytes."""
    name = hex_of(digest)
    return f"blobs/{name[:2]}/{name}"


def pieces_name(digest: str) -> str:
    """Name of the hashes of its pieces."""
    name = hex_of(digest)
    return f"pieces/{name[:2]}/{name}"


def meta_name(digest: str) -> str:
    """Name of the sidecar."""
    name = hex_of(digest)
    return f"meta/{name[:2]}/{name}.json"


def quarantine_name(digest: str) -> str:
    """Name of a damaged blob."""
    return f"quarantine/{hex_of(digest)}"


def digest_at(name: str) -> str:
    """The digest a name was made from."""
    return f"sha256:{name.rpartition('/')[2].removesuffix('.json')}"


def record(objects: Objects, info: ArtifactInfo, hashes: Hashes) -> None:
    """Write what belongs beside a blob; after this the artefact exists."""
    if hashes.size_bytes > CHUNK_BYTES:
        objects.write(pieces_name(info.digest), hashes.pieces)
    objects.write(meta_name(info.digest), info.to_json())


def remove(objects: Objects, digest: str) -> None:
    """Delete an artefact, its existence first."""
    for name in (meta_name(digest), blob_name(digest), pieces_name(digest)):
        objects.remove(name)


def set_aside(objects: Objects, digest: str) -> None:
    """Put a damaged blob where nobody is served from, and leave a mark there even if its bytes are gone."""
    objects.remove(meta_name(digest))
    if not objects.move(blob_name(digest), quarantine_name(digest)):
        objects.write(quarantine_name(digest), b"")
    objects.remove(pieces_name(digest))
