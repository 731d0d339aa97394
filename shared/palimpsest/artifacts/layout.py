"""The object names of an artefact's parts. Names are derived from a digest, never from a caller's string.

::

    blobs/<ab>/<64 hex>        the bytes
    pieces/<ab>/<64 hex>       SHA-256 of each 1 MiB chunk, for blobs larger than one chunk
    meta/<ab>/<64 hex>.json    sidecar, written last and deleted first: the artefact exists if the sidecar does
    quarantine/<64 hex>        a damaged blob, kept for the grace time
"""

from palimpsest.artifacts.digests import CHUNK_BYTES, Hashes, hex_of
from palimpsest.artifacts.info import ArtifactInfo
from palimpsest.artifacts.objects import Objects


def blob_name(digest: str) -> str:
    """Name of the blob."""
    name = hex_of(digest)
    return f"blobs/{name[:2]}/{name}"


def chunk_hashes_name(digest: str) -> str:
    """Name of the hashes of the blob's chunks."""
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
    """The digest that a name was derived from."""
    return f"sha256:{name.rpartition('/')[2].removesuffix('.json')}"


def record(objects: Objects, info: ArtifactInfo, hashes: Hashes) -> None:
    """Write a blob's chunk hashes and sidecar; after this the artefact exists."""
    if hashes.size_bytes > CHUNK_BYTES:
        objects.write(chunk_hashes_name(info.digest), hashes.chunks)
    objects.write(meta_name(info.digest), info.to_json())


def remove(objects: Objects, digest: str) -> None:
    """Delete an artefact, its sidecar first."""
    for name in (meta_name(digest), blob_name(digest), chunk_hashes_name(digest)):
        objects.remove(name)


def quarantine(objects: Objects, digest: str) -> None:
    """Move a damaged blob to quarantine, where it is never served; if its bytes are missing, leave an empty marker."""
    objects.remove(meta_name(digest))
    if not objects.move(blob_name(digest), quarantine_name(digest)):
        objects.write(quarantine_name(digest), b"")
    objects.remove(chunk_hashes_name(digest))
