"""All corpora of an installation, with the tokenizers and encoders that turn texts into their terms."""

import threading
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from palimpsest.errors import FailedPrecondition, InvalidArgument, Reason
from palimpsest.models.tokenizers import TokenizerCache
from palimpsest.settings import DatastoreSettings, Settings
from services.datastore.index.encoder import DEFAULT, Encoder, encoder_fingerprint, open_encoder
from services.datastore.search.passages import SearchMode, SearchResults, search
from services.datastore.store.catalogue import CorpusCatalogue, OpenCorpus, id_of
from services.datastore.store.corpus import Corpus
from services.datastore.store.manifest import CorpusSpec
from services.datastore.tokens import ByteTokenizer

if TYPE_CHECKING:
    from qdrant_client import QdrantClient

    from palimpsest.models import ModelCatalogue, ModelRecord

_PASSAGE_TOKENS, _LEFT_CONTEXT = 128, 32


class Corpora:
    """All corpora of an installation, shared by the service and its jobs. Methods block; any thread may call them.

    Parameters
    ----------
    settings
        The installation's settings.
    models
        The installation's models.
    """

    def __init__(self, settings: Settings, models: "ModelCatalogue") -> None:
        self.settings = DatastoreSettings()
        self._models, self._threads = models, settings.threads
        folder = self.settings.folder or settings.state_dir / "corpora"
        self.catalogue = CorpusCatalogue(folder, self.settings.key_bytes, _qdrant(self.settings.qdrant_url))
        self._tokenizers = TokenizerCache(ByteTokenizer)
        self._encoders: dict[str, Encoder] = {}
        self._lock = threading.Lock()

    def create(
        self,
        tenant: str,
        corpus_id: str,
        model: str,
        *,
        encoder: str = "",
        passage_tokens: int = 0,
        left_context: int = 0,
        labels: Mapping[str, str] | None = None,
    ) -> OpenCorpus:
        """Create a corpus.

        Parameters
        ----------
        tenant
            Whose it is.
        corpus_id, model
            Its id, and the id of its model.
        encoder
            Name of the encoder of its vectors; empty: the sample encoder.
        passage_tokens, left_context
            Tokens of a passage, and of the context encoded before it; 0: the defaults. -1 as ``left_context``: none.
        labels
            Of the corpus.

        Raises
        ------
        NotFound, AlreadyExists, InvalidArgument, FailedPrecondition
            See the CreateCorpus RPC.
        """
        record = self._models.get(model)
        name = encoder or DEFAULT
        dim = self.encoder_named(name).dim
        self.tokenizer_of(record)
        left = {0: _LEFT_CONTEXT, -1: 0}.get(left_context, left_context)
        spec = CorpusSpec(
            corpus=corpus_id,
            model=record.model_id,
            model_fingerprint=record.fingerprint,
            tokenizer_fingerprint=record.tokenizer_fingerprint,
            vocabulary=record.vocab_size,
            encoder=name,
            encoder_fingerprint=encoder_fingerprint(name),
            dim=dim,
            key_size=record.geometry.hidden_size,
            passage_tokens=passage_tokens or _PASSAGE_TOKENS,
            left_context=left,
            created=time.time(),
            labels=dict(labels or {}),
        )
        return self.catalogue.create(tenant, spec)

    def open(self, tenant: str, name: str) -> OpenCorpus:
        """Open a corpus by its name, ``corpora/{id}``; raises the errors of ``CorpusCatalogue.open``."""
        return self.catalogue.open(tenant, id_of(name))

    def tokenizer(self, spec: CorpusSpec) -> ByteTokenizer:
        """The tokenizer of a corpus's model.

        Raises
        ------
        NotFound
            MODEL_NOT_FOUND.
        FailedPrecondition
            CORPUS_MODEL_MISMATCH: the model has changed since the corpus was created.
        """
        record = self._models.get(spec.model)
        if record.fingerprint != spec.model_fingerprint:
            raise mismatch(spec, record.fingerprint)
        return self.tokenizer_of(record)

    def tokenizer_of(self, record: "ModelRecord") -> ByteTokenizer:
        """The tokenizer of a registered model.

        Raises
        ------
        FailedPrecondition
            TOKENIZER_UNSUPPORTED.
        """
        return self._tokenizers.get(record)

    def encoder(self, spec: CorpusSpec) -> Encoder:
        """The encoder of a corpus's vectors.

        Raises
        ------
        FailedPrecondition
            ENCODER_MISSING, or CORPUS_MODEL_MISMATCH: its weights have changed since the corpus was created.
        """
        encoder = self.encoder_named(spec.encoder)
        if encoder_fingerprint(spec.encoder) != spec.encoder_fingerprint:
            raise FailedPrecondition(
                Reason.CORPUS_MODEL_MISMATCH,
                f"The weights of the encoder {spec.encoder} have changed since corpora/{spec.corpus} was created. "
                "Create the corpus again and add its documents to it.",
            )
        return encoder

    def encoder_named(self, name: str) -> Encoder:
        """An encoder by its name; raises what ``open_encoder`` raises."""
        with self._lock:
            if name not in self._encoders:
                self._encoders[name] = open_encoder(name, self._threads)
            return self._encoders[name]

    def search(
        self, opened: list[OpenCorpus], query: str, k: int, mode: SearchMode, min_epochs: list[int]
    ) -> SearchResults:
        """Find passages; see ``passages.search``."""
        corpora = [each.corpus for each in opened]
        vectors: dict[str, np.ndarray | None] = {}
        for corpus in corpora:
            name = corpus.spec.encoder
            if name not in vectors:
                vectors[name] = (
                    None if mode is SearchMode.SPARSE else self.encoder(corpus.spec).encode([query])[0]
                )
        return search(corpora, query, [vectors[c.spec.encoder] for c in corpora], k, mode, min_epochs)

    def context_ids(
        self, corpora: Sequence[Corpus], text: str, ids: Sequence[int] | None = None
    ) -> np.ndarray:
        """Token ids of the text to continue, int64 [n]; ``ids`` take the place of the text.

        Raises
        ------
        InvalidArgument
            PROMPT_EMPTY.
        FailedPrecondition
            CORPUS_MODEL_MISMATCH: the corpora are bound to different models, or their model has changed.
        NotFound
            MODEL_NOT_FOUND.
        """
        first = corpora[0].spec
        for corpus in corpora:
            if corpus.spec.model_fingerprint != first.model_fingerprint:
                raise mismatch(corpus.spec, first.model_fingerprint)
        if ids is not None:
            return np.asarray(ids, np.int64)
        if not text:
            message = "There is no text to continue. Set text, or tokens."
            raise InvalidArgument.field(Reason.PROMPT_EMPTY, "text", message)
        return self.tokenizer(first).encode(text.encode()).ids.astype(np.int64)


def _qdrant(url: str) -> "QdrantClient | None":
    if not url:
        return None
    from qdrant_client import QdrantClient

    return QdrantClient(url=url)


def mismatch(spec: CorpusSpec, found: str) -> FailedPrecondition:
    """Build the error for a corpus that is bound to another model."""
    return FailedPrecondition(
        Reason.CORPUS_MODEL_MISMATCH,
        f"corpora/{spec.corpus} is bound to {spec.model} with fingerprint {spec.model_fingerprint[:19]}…, but this "
        f"model has {found[:19]}…. Create a corpus for this model.",
        metadata={"found": found, "expected": spec.model_fingerprint},
    )
