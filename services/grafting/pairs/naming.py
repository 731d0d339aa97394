"""Models and adapters by the names that callers give them."""

from collections.abc import Iterable, Sequence
from typing import Protocol

from palimpsest.artifacts import ArtifactInfo
from palimpsest.models import ModelCatalogue, ModelRecord
from services.grafting.pairs.adapters import AdapterRecord, Donor, joined

_ARTEFACT = "sha256:"


class Artifacts(Protocol):
    """A store of artefacts, or a caller's view of one."""

    def stat(self, digest: str) -> ArtifactInfo:
        """Look up an artefact."""
        ...

    def chunks(self, digest: str) -> Iterable[bytes]:
        """Read it."""
        ...


def is_adapter(name: str) -> bool:
    """Whether a donor's name is the digest of an adapter's artefact."""
    return name.startswith(_ARTEFACT)


def records_of(
    base: str, donors: Sequence[str], models: ModelCatalogue, artifacts: Artifacts
) -> tuple[ModelRecord, list[Donor]]:
    """Look up a base and its donors.

    Parameters
    ----------
    base
        A model's id.
    donors
        Ids of models, and digests of adapters.
    models, artifacts
        Where they are; the artefacts as far as whoever asks may see them.

    Raises
    ------
    NotFound
        MODEL_NOT_FOUND, ARTIFACT_NOT_FOUND.
    """

    def adapter(digest: str) -> AdapterRecord:
        size = artifacts.stat(digest).size_bytes
        return AdapterRecord(digest, size, lambda: joined(artifacts.chunks(digest)), models.get)

    return models.get(base), [adapter(each) if is_adapter(each) else models.get(each) for each in donors]
