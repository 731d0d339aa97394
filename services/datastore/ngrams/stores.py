"""N-gram stores of texts: checked when they are asked for, built by jobs, looked into."""

import shutil
import time
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import redis

from palimpsest.api.datastore.v1 import datastore_pb2 as pb
from palimpsest.errors import Aborted, FailedPrecondition, InvalidArgument, NotFound, Reason
from palimpsest.progress import Progress
from palimpsest.settings import Settings
from services.datastore.convert import inspected_message, timestamp
from services.datastore.corpora import Corpora
from services.datastore.ngrams.catalogue import NgramCatalogue, content_of
from services.datastore.ngrams.spec import StoreSpec
from services.datastore.ngrams.texts import ArtifactText, CorpusText, Text
from services.datastore.tokens import ByteTokenizer

if TYPE_CHECKING:
    from palimpsest.artifacts import ArtifactStore
    from palimpsest.models import ModelCatalogue, ModelRecord
    from palimpsest.ngrams import StoreCache

_ATTEMPTS = 3
_LIMIT = 5


class _Asked(NamedTuple):
    """What a request asks for, with everything it names looked up."""

    text: Text
    record: "ModelRecord"
    source: str
    content: str


class NgramStores:
    """The n-gram stores of an installation; blocks, and may be called from any thread.

    Parameters
    ----------
    settings
        Of the installation.
    client
        Redis, where the catalogue is.
    artifacts, models, corpora
        Of the installation.
    """

    def __init__(
        self,
        settings: Settings,
        client: redis.Redis,
        artifacts: "ArtifactStore",
        models: "ModelCatalogue",
        corpora: Corpora,
    ) -> None:
        self._folder = settings.state_dir
        self._artifacts, self._models, self._corpora = artifacts, models, corpora
        self.catalogue = NgramCatalogue(client, settings.redis_prefix, artifacts)

    @cached_property
    def _shelf(self) -> "StoreCache":
        """The stores that are open. Made when it is needed: compiled look-ups take a moment to load."""
        from palimpsest.ngrams import StoreCache

        return StoreCache(self._artifacts, self._folder / "ngrams")

    def check(self, tenant: str, spec: StoreSpec) -> None:
        """Refuse at once what the job would refuse.

        Raises
        ------
        InvalidArgument, NotFound, AlreadyExists, FailedPrecondition, DataLoss
            As BuildNgramStore.
        """
        asked = self._asked(tenant, spec)
        if self.catalogue.find(tenant, spec.name, asked.content) is None and not self._any(spec, tenant):
            raise FailedPrecondition(
                Reason.NGRAMS_EMPTY,
                f"{asked.source} has no text to count n-grams in. Add documents, or send a longer text.",
            )

    def build(self, tenant: str, spec: StoreSpec, work: str, progress: Progress) -> pb.NgramStore:
        """Build a store and enter it in the catalogue, or return the one that is there.

        Parameters
        ----------
        tenant, spec
            Whose the store will be; what it is to be made of.
        work
            Name of a folder to work in, of this attempt alone.
        progress
            Told of documents, then of tokens.

        Raises
        ------
        InvalidArgument, NotFound, AlreadyExists, FailedPrecondition, Aborted, DataLoss
            As BuildNgramStore.
        """
        folder = self._folder / "ngram-builds" / work
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            for _ in range(_ATTEMPTS):
                asked = self._asked(tenant, spec)
                found = self.catalogue.find(tenant, spec.name, asked.content)
                if found is not None:
                    return found
                store = self._store(spec, asked, folder / "store", progress)
                if self._stands(tenant, spec, asked.text):
                    return self.catalogue.put(tenant, store, asked.content)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        raise Aborted(
            Reason.NGRAMS_STALE,
            f"Documents of {spec.corpus} were deleted each of {_ATTEMPTS} times that the store was nearly finished, "
            "and it must not hold them. Build it again when fewer are.",
        )

    def inspect(
        self, tenant: str, name: str, text: str, ids: Sequence[int] | None = None, limit: int = 0
    ) -> pb.InspectNgramsResponse:
        """Look up what a store has counted after a text.

        Parameters
        ----------
        tenant
            Whose store it is.
        name
            ``ngramStores/{id}``.
        text
            The text; empty if token ids are given.
        ids
            Token ids in place of the text.
        limit
            Most continuations to return; 0: 5.

        Raises
        ------
        InvalidArgument, NotFound, FailedPrecondition, DataLoss
            As InspectNgrams.
        """
        known = self.catalogue.get(tenant, name)
        store = self._shelf.get(known.artifact)
        store.require(known.tokenizer_fingerprint)
        try:
            tokenizer = self._tokenizer(known)
        except (NotFound, FailedPrecondition):
            if text:
                raise
            tokenizer = None  # ids say enough to those who sent ids
        read: list[int] = list(ids or ())
        if ids is None and tokenizer is not None:
            read = tokenizer.encode(text.encode()).ids.tolist()
        wrong = next((i for i in read if i >= store.vocab_size), None)
        if wrong is not None:
            message = f"{wrong} is no token id; the vocabulary has {store.vocab_size}."
            raise InvalidArgument.field(Reason.TOKEN_ID_OUT_OF_RANGE, "tokens.ids", message, token=wrong)
        pieces = tokenizer.pieces if tokenizer is not None else []
        return inspected_message(store, read, pieces, limit or _LIMIT)

    def _asked(self, tenant: str, spec: StoreSpec) -> _Asked:
        record = self._models.get(spec.model) if spec.model else None
        if spec.corpus:
            source = spec.corpus
            corpus = self._corpora.open(tenant, source).corpus
            self._corpora.tokenizer(corpus.spec)
            record = record or self._models.get(corpus.spec.model)
            if record.tokenizer_fingerprint != corpus.spec.tokenizer_fingerprint:
                raise FailedPrecondition(
                    Reason.NGRAMS_TOKENIZER_MISMATCH,
                    f"{source} was cut with the tokenizer of {corpus.spec.model}, and {record.model_id} has another. "
                    "Make a corpus for that model, or send its texts as an artefact.",
                    metadata={
                        "found": corpus.spec.tokenizer_fingerprint,
                        "expected": record.tokenizer_fingerprint,
                    },
                )
            text: Text = CorpusText(corpus)
        elif spec.text_artifact:
            source = spec.text_artifact
            if record is None:
                message = "Name the model whose tokenizer is to cut the text."
                raise InvalidArgument.field(Reason.INVALID_REQUEST, "model", message)
            info = self._artifacts.stat(source)
            tokenizer = self._corpora.tokenizer_of(record)
            text = ArtifactText(self._artifacts, info, tokenizer, self._corpora.settings.document_bytes)
        else:
            message = "Name a corpus, or send the digest of a text."
            raise InvalidArgument.field(Reason.INVALID_REQUEST, "corpus", message)
        content = content_of(
            tokenizer=record.tokenizer_fingerprint,
            vocabulary=record.vocab_size,
            source=source,
            version=text.version,
            labels=dict(spec.labels),
        )
        return _Asked(text, record, source, content)

    def _any(self, spec: StoreSpec, tenant: str) -> bool:
        if spec.text_artifact:
            return self._artifacts.stat(spec.text_artifact).size_bytes > 0
        view = self._corpora.open(tenant, spec.corpus).corpus.view()
        return any(True for part in view.parts for _ in part.live_documents())

    def _stands(self, tenant: str, spec: StoreSpec, text: Text) -> bool:
        """Whether everything that was counted is still there."""
        if not isinstance(text, CorpusText):
            return True
        return self._corpora.open(tenant, spec.corpus).corpus.view().tombstones == text.tombstones

    def _store(self, spec: StoreSpec, asked: _Asked, path: Path, progress: Progress) -> pb.NgramStore:
        from palimpsest.ngrams import ORDERS, build_store
        from palimpsest.ngrams.opening import MEDIA_TYPE

        record = asked.record
        layout = build_store(
            asked.text.documents(),
            path,
            tokenizer=record.tokenizer_fingerprint,
            vocab_size=record.vocab_size,
            progress=progress,
        )
        info = self._artifacts.put_file(path, MEDIA_TYPE)
        progress.publish(info.digest)
        return pb.NgramStore(
            name=spec.name,
            artifact=info.digest,
            size_bytes=info.size_bytes,
            tokenizer_fingerprint=record.tokenizer_fingerprint,
            model=record.model_id,
            token_count=layout.tokens,
            document_count=layout.documents,
            bytes_per_token=info.size_bytes / layout.tokens,
            orders=ORDERS,
            corpus=spec.corpus or None,
            text_artifact=spec.text_artifact or None,
            corpus_epoch=asked.text.epoch,
            create_time=timestamp(time.time()),
            labels=spec.labels,
        )

    def _tokenizer(self, store: pb.NgramStore) -> ByteTokenizer:
        record = self._models.get(store.model)
        if record.tokenizer_fingerprint != store.tokenizer_fingerprint:
            raise FailedPrecondition(
                Reason.NGRAMS_TOKENIZER_MISMATCH,
                f"{store.name} was built for {store.model}, which has another tokenizer by now. Send token ids, or "
                "build the store anew.",
                metadata={"found": record.tokenizer_fingerprint, "expected": store.tokenizer_fingerprint},
            )
        return self._corpora.tokenizer_of(record)
