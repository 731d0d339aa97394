"""N-gram stores: requests are checked at once, stores are built by jobs, and looked up by calls."""

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
from services.datastore.convert import timestamp
from services.datastore.corpora import Corpora
from services.datastore.ngrams.catalogue import NgramCatalogue, content_of
from services.datastore.ngrams.inspection import inspected_message
from services.datastore.ngrams.spec import StoreSpec
from services.datastore.ngrams.texts import ArtifactText, CorpusText, TextSource
from services.datastore.tokens import ByteTokenizer

if TYPE_CHECKING:
    from palimpsest.artifacts import ArtifactStore
    from palimpsest.models import ModelCatalogue, ModelRecord
    from palimpsest.ngrams import StoreCache

_ATTEMPTS = 3
_LIMIT = 5


class _Build(NamedTuple):
    """A build request with everything it names looked up."""

    text: TextSource
    record: "ModelRecord"
    source: str
    content: str


class NgramStores:
    """The n-gram stores of an installation. Methods block, and may be called from any thread.

    Parameters
    ----------
    settings
        The installation's settings.
    client
        Redis client of the catalogue.
    artifacts, models, corpora
        The installation's artefacts, models and corpora.
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
    def _cache(self) -> "StoreCache":
        """The open stores. Created when needed: the compiled look-ups take a moment to load."""
        from palimpsest.ngrams import StoreCache

        return StoreCache(self._artifacts, self._folder / "ngrams")

    def check(self, tenant: str, spec: StoreSpec) -> None:
        """Raise the errors that the job of this store would raise.

        Raises
        ------
        InvalidArgument, NotFound, AlreadyExists, FailedPrecondition, DataLoss
            See the BuildNgramStore RPC.
        """
        build = self._resolve(tenant, spec)
        existing = self.catalogue.find(tenant, spec.name, build.content)
        if existing is None and not self._has_text(spec, tenant):
            raise FailedPrecondition(
                Reason.NGRAMS_EMPTY,
                f"{build.source} has no text to count n-grams in. Add documents, or upload a text.",
            )

    def build(self, tenant: str, spec: StoreSpec, work: str, progress: Progress) -> pb.NgramStore:
        """Build a store and catalogue it, or return the existing one.

        Parameters
        ----------
        tenant, spec
            Whose the store will be; what it is made of.
        work
            Name of a working folder that no other attempt uses.
        progress
            Reports documents, then tokens.

        Raises
        ------
        InvalidArgument, NotFound, AlreadyExists, FailedPrecondition, Aborted, DataLoss
            See the BuildNgramStore RPC.
        """
        folder = self._folder / "ngram-builds" / work
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            for _ in range(_ATTEMPTS):
                build = self._resolve(tenant, spec)
                existing = self.catalogue.find(tenant, spec.name, build.content)
                if existing is not None:
                    return existing
                store = self._write(spec, build, folder / "store", progress)
                if self._nothing_deleted(tenant, spec, build.text):
                    return self.catalogue.put(tenant, store, build.content)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        raise Aborted(
            Reason.NGRAMS_STALE,
            f"Documents of {spec.corpus} were deleted during each of {_ATTEMPTS} attempts to build the store, which "
            "must not contain them. Build it again once deletions have stopped.",
        )

    def inspect(
        self, tenant: str, name: str, text: str, ids: Sequence[int] | None = None, limit: int = 0
    ) -> pb.InspectNgramsResponse:
        """Report what a store knows about a text.

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
            See the InspectNgrams RPC.
        """
        known = self.catalogue.get(tenant, name)
        store = self._cache.get(known.artifact)
        store.require(known.tokenizer_fingerprint)
        try:
            tokenizer = self._tokenizer(known)
        except (NotFound, FailedPrecondition):
            if text:
                raise
            tokenizer = None  # a request with token ids needs no tokenizer
        read: list[int] = list(ids or ())
        if ids is None and tokenizer is not None:
            read = tokenizer.encode(text.encode()).ids.tolist()
        wrong = next((i for i in read if i >= store.vocab_size), None)
        if wrong is not None:
            message = (
                f"{wrong} is not a token id: the vocabulary has {store.vocab_size} tokens, numbered from 0."
            )
            raise InvalidArgument.field(Reason.TOKEN_ID_OUT_OF_RANGE, "tokens.ids", message, token=wrong)
        token_bytes = tokenizer.token_bytes if tokenizer is not None else []
        return inspected_message(store, read, token_bytes, limit or _LIMIT)

    def _resolve(self, tenant: str, spec: StoreSpec) -> _Build:
        record = self._models.get(spec.model) if spec.model else None
        if spec.corpus:
            source = spec.corpus
            corpus = self._corpora.open(tenant, source).corpus
            self._corpora.tokenizer(corpus.spec)
            record = record or self._models.get(corpus.spec.model)
            if record.tokenizer_fingerprint != corpus.spec.tokenizer_fingerprint:
                raise FailedPrecondition(
                    Reason.NGRAMS_TOKENIZER_MISMATCH,
                    f"{source} is tokenized with the tokenizer of {corpus.spec.model}; {record.model_id} has another "
                    "one. Create a corpus for that model, or upload the texts as an artefact.",
                    metadata={
                        "found": corpus.spec.tokenizer_fingerprint,
                        "expected": record.tokenizer_fingerprint,
                    },
                )
            text: TextSource = CorpusText(corpus)
        elif spec.text_artifact:
            source = spec.text_artifact
            if record is None:
                message = "An uploaded text needs a model. Set model to one whose tokenizer the store is for."
                raise InvalidArgument.field(Reason.INVALID_REQUEST, "model", message)
            info = self._artifacts.stat(source)
            tokenizer = self._corpora.tokenizer_of(record)
            text = ArtifactText(self._artifacts, info, tokenizer, self._corpora.settings.document_bytes)
        else:
            message = "There is no text to count. Set corpus, or text_artifact."
            raise InvalidArgument.field(Reason.INVALID_REQUEST, "corpus", message)
        content = content_of(
            tokenizer=record.tokenizer_fingerprint,
            vocabulary=record.vocab_size,
            source=source,
            version=text.version,
            labels=dict(spec.labels),
        )
        return _Build(text, record, source, content)

    def _has_text(self, spec: StoreSpec, tenant: str) -> bool:
        if spec.text_artifact:
            return self._artifacts.stat(spec.text_artifact).size_bytes > 0
        view = self._corpora.open(tenant, spec.corpus).corpus.view()
        return any(True for part in view.parts for _ in part.live_documents())

    def _nothing_deleted(self, tenant: str, spec: StoreSpec, text: TextSource) -> bool:
        """Whether every document that was counted is still live."""
        if not isinstance(text, CorpusText):
            return True
        return (
            self._corpora.open(tenant, spec.corpus).corpus.view().tombstone_version == text.tombstone_version
        )

    def _write(self, spec: StoreSpec, build: _Build, path: Path, progress: Progress) -> pb.NgramStore:
        """Count the n-grams into a file, and store the file as an artefact."""
        from palimpsest.ngrams import ORDERS, build_store
        from palimpsest.ngrams.opening import MEDIA_TYPE

        record = build.record
        layout = build_store(
            build.text.documents(),
            path,
            tokenizer=record.tokenizer_fingerprint,
            vocab_size=record.vocab_size,
            progress=progress,
        )
        info = self._artifacts.put_file(path, MEDIA_TYPE)
        progress.publish(info.digest)
        # Whoever drafts with it opens it, so it is opened once before it has a name.
        self._cache.get(info.digest).require(record.tokenizer_fingerprint)
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
            corpus_epoch=build.text.epoch,
            create_time=timestamp(time.time()),
            labels=spec.labels,
        )

    def _tokenizer(self, store: pb.NgramStore) -> ByteTokenizer:
        record = self._models.get(store.model)
        if record.tokenizer_fingerprint != store.tokenizer_fingerprint:
            raise FailedPrecondition(
                Reason.NGRAMS_TOKENIZER_MISMATCH,
                f"{store.name} was built for {store.model}, whose tokenizer has changed since. Send token ids, or "
                "build the store again.",
                metadata={"found": record.tokenizer_fingerprint, "expected": store.tokenizer_fingerprint},
            )
        return self._corpora.tokenizer_of(record)
