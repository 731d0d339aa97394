"""What an n-gram store is to be made of."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from palimpsest.api.datastore.v1 import datastore_pb2 as pb


@dataclass(frozen=True)
class StoreSpec:
    """An n-gram store to build.

    Attributes
    ----------
    store_id
        The store will be ``ngramStores/{store_id}``.
    corpus, text_artifact
        The text: a corpus by its name, or an artefact by its digest; one of them is empty.
    model
        Id of the model whose tokenizer cuts the text; empty: the corpus's.
    labels
        Of the store.
    """

    store_id: str
    corpus: str = ""
    text_artifact: str = ""
    model: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The store's name."""
        return f"ngramStores/{self.store_id}"


def spec_of(request: pb.BuildNgramStoreRequest) -> StoreSpec:
    """Read a request."""
    return StoreSpec(
        request.store_id, request.corpus, request.text_artifact, request.model, dict(request.labels)
    )
