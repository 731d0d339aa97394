"""The rooms with their RPCs as typed methods. Generated from protos/ by deploy/client.py."""

# ruff: noqa: D417

from collections.abc import AsyncIterable, Mapping, Sequence

from google.longrunning import operations_pb2

from palimpsest.api.artifacts.v1 import artifacts_pb2
from palimpsest.api.codec.v1 import codec_pb2
from palimpsest.api.datastore.v1 import datastore_pb2
from palimpsest.api.decoding.v1 import decoding_pb2
from palimpsest.api.models.v1 import models_pb2
from palimpsest.client.aio.connection import AsyncRoom, rpc
from palimpsest.client.aio.jobs import AsyncJob
from palimpsest.client.aio.streams import AsyncStream


class AsyncArtifactsRoom(AsyncRoom):
    """Artefacts: immutable bytes named by their SHA-256 digest. Inputs and results of jobs, models and caches
    are artefacts; they travel here in chunks of at most 1 MiB and never inside another message.
    """

    @rpc("palimpsest.api.artifacts.v1.ArtifactService.WriteArtifact")
    async def write_artifact(
        self,
        requests: AsyncIterable[artifacts_pb2.WriteArtifactRequest],
        *,
        timeout: float | None = None,
    ) -> artifacts_pb2.Artifact:
        """Uploads one artefact. The first message opens or resumes an upload and names it; the messages after it
        carry chunks in order; the last sets finish. If the stream breaks, call QueryWriteStatus and go on from
        committed_size in a new stream: bytes already committed are not sent again.
        OUT_OF_RANGE: a chunk's offset is not committed_size; resume from the offset in ErrorInfo.metadata.
        DATA_LOSS: the bytes do not have the digest or a chunk not the checksum announced; start again.
        RESOURCE_EXHAUSTED: the store is full or the artefact larger than allowed; nothing half-written is served.
        """
        ...

    @rpc("palimpsest.api.artifacts.v1.ArtifactService.QueryWriteStatus")
    async def query_write_status(
        self,
        *,
        upload_id: str,
        timeout: float | None = None,
    ) -> artifacts_pb2.QueryWriteStatusResponse:
        """How far an upload has come. NOT_FOUND: no such upload (it was never opened, or expired unfinished)."""
        ...

    @rpc("palimpsest.api.artifacts.v1.ArtifactService.ReadArtifact")
    def read_artifact(
        self,
        *,
        digest: str,
        offset: int | None = None,
        limit: int | None = None,
        timeout: float | None = None,
    ) -> AsyncStream[artifacts_pb2.ReadArtifactResponse]:
        """Streams an artefact's bytes from offset. A read from 0 to the end is verified against the digest as it
        goes, and a stored blob that no longer has its digest is set aside and answered DATA_LOSS before its
        last chunk is sent; it is never served again.

        Parameters
        ----------
        limit
            Most bytes to send; 0 for all.
        """
        ...

    @rpc("palimpsest.api.artifacts.v1.ArtifactService.GetArtifact")
    async def get_artifact(
        self,
        *,
        digest: str,
        timeout: float | None = None,
    ) -> artifacts_pb2.Artifact:
        """Call GetArtifact."""
        ...

    @rpc("palimpsest.api.artifacts.v1.ArtifactService.ListArtifacts")
    async def list_artifacts(
        self,
        *,
        page_size: int | None = None,
        page_token: str | None = None,
        timeout: float | None = None,
    ) -> artifacts_pb2.ListArtifactsResponse:
        """Newest first.

        Parameters
        ----------
        page_size
            0 for 100; more than 1000 is taken as 1000.
        """
        ...

    @rpc("palimpsest.api.artifacts.v1.ArtifactService.FindMissing")
    async def find_missing(
        self,
        *,
        digests: Sequence[str] | None = None,
        timeout: float | None = None,
    ) -> artifacts_pb2.FindMissingResponse:
        """Which of these digests the store does not hold: push only those."""
        ...

    @rpc("palimpsest.api.artifacts.v1.ArtifactService.DeleteArtifact")
    async def delete_artifact(
        self,
        *,
        digest: str,
        timeout: float | None = None,
    ) -> artifacts_pb2.DeleteArtifactResponse:
        """Deletes an artefact that nothing refers to. FAILED_PRECONDITION: a job, model or pin still refers to it;
        ErrorInfo.metadata names the owners.
        """
        ...

    @rpc("palimpsest.api.artifacts.v1.ArtifactService.CollectGarbage")
    async def collect_garbage(
        self,
        *,
        request_id: str | None = None,
        grace_seconds: int | None = None,
        dry_run: bool | None = None,
        timeout: float | None = None,
    ) -> AsyncJob[artifacts_pb2.CollectGarbageResponse]:
        """Deletes, as a job, artefacts that nothing refers to and that are older than the grace time.

        Parameters
        ----------
        grace_seconds
            Only artefacts and unfinished uploads at least this old, in seconds; 0 for the server's setting.
        dry_run
            Report what would go and delete nothing.
        """
        ...


class AsyncCodecRoom(AsyncRoom):
    """Codec: a context's keys and values, computed once, stored as small bitstreams, streamed to whoever
    needs them.

    A context is a text under a model. Its cache is cut into chunks of consecutive tokens; each chunk is
    stored at several levels, from "near-lossless" to "smallest" (and "lossless" if asked for), beside its
    token ids, from which it can always be recomputed. Loading chooses, chunk by chunk, a level or the
    text.
    """

    @rpc("palimpsest.api.codec.v1.CodecService.CreateContext")
    async def create_context(
        self,
        *,
        model: str,
        text: str | None = None,
        tokens: codec_pb2.Tokens | Mapping[str, object] | Sequence[int] | None = None,
        text_artifact: str | None = None,
        context_id: str | None = None,
        coding: codec_pb2.Coding | Mapping[str, object] | None = None,
        labels: Mapping[str, str] | None = None,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> AsyncJob[codec_pb2.Context]:
        """Prefills a text and stores its cache at every level, as a job. The context appears whole or not at
        all. The same text, model and settings under the same name are stored once. NOT_FOUND: no such model
        or text artefact. ALREADY_EXISTS: the name is taken by another content. INVALID_ARGUMENT: no text, or
        longer than the model's context. UNIMPLEMENTED: a model whose layers do not keep all positions.

        Parameters
        ----------
        text
            Raw text; tokenized with the model's tokenizer, which adds its opening special tokens if it has
            any.
        text_artifact
            Digest of an artefact with UTF-8 text, for texts of any size.
        context_id
            The context will be contexts/{context_id}; empty: an id made from its content.
        """
        ...

    @rpc("palimpsest.api.codec.v1.CodecService.PutContext")
    async def put_context(
        self,
        requests: AsyncIterable[codec_pb2.PutContextRequest],
        *,
        timeout: float | None = None,
    ) -> codec_pb2.Context:
        """Stores a cache that the caller has computed. The first message is the spec; the others carry the
        numbers, chunk by chunk: a chunk's keys, then its values, each [layers, kv_heads, tokens, dim] in
        row-major order, little-endian. Nothing is stored if the stream ends early. INVALID_ARGUMENT: shape,
        type, fewer or more bytes than the spec says, or numbers that are not finite. FAILED_PRECONDITION:
        the shape is not the model's. ALREADY_EXISTS: as CreateContext.
        """
        ...

    @rpc("palimpsest.api.codec.v1.CodecService.GetContext")
    async def get_context(
        self,
        *,
        name: str,
        timeout: float | None = None,
    ) -> codec_pb2.Context:
        """One context, with its chunks."""
        ...

    @rpc("palimpsest.api.codec.v1.CodecService.ListContexts")
    async def list_contexts(
        self,
        *,
        page_size: int | None = None,
        page_token: str | None = None,
        model: str | None = None,
        timeout: float | None = None,
    ) -> codec_pb2.ListContextsResponse:
        """Oldest first, without their chunks.

        Parameters
        ----------
        page_size
            0 for 100; more than 1000 is taken as 1000.
        model
            Only contexts of this model; empty for all.
        """
        ...

    @rpc("palimpsest.api.codec.v1.CodecService.DeleteContext")
    async def delete_context(
        self,
        *,
        name: str,
        timeout: float | None = None,
    ) -> codec_pb2.DeleteContextResponse:
        """Forgets a context. Loads that have begun go on; its bytes go with the next garbage collection."""
        ...

    @rpc("palimpsest.api.codec.v1.CodecService.LookUpContext")
    async def look_up_context(
        self,
        *,
        model: str,
        text: str | None = None,
        tokens: codec_pb2.Tokens | Mapping[str, object] | Sequence[int] | None = None,
        timeout: float | None = None,
    ) -> codec_pb2.LookUpContextResponse:
        """The stored context that shares the longest prefix with a text: whole chunks, or a context's end. Load
        it with chunks set to the number found. A response without a name: nothing is stored for this text.
        """
        ...

    @rpc("palimpsest.api.codec.v1.CodecService.LoadContext")
    def load_context(
        self,
        requests: AsyncIterable[codec_pb2.LoadContextRequest],
        *,
        timeout: float | None = None,
    ) -> AsyncStream[codec_pb2.LoadContextResponse]:
        """Streams a context, adaptively. The caller opens with begin and then reports what it received,
        recomputed or found damaged; the server answers with opened, the token ids, and then, decision by
        decision, chunks at some level (from the back of the context) and orders to recompute chunks from
        their ids (from the front), until the two meet, and ended. At most window_bytes are on the way
        unreported: a caller that stops reading stops the stream, and one that goes away ends it. NOT_FOUND:
        no such context. FAILED_PRECONDITION: it belongs to another model than model_fingerprint.
        INVALID_ARGUMENT: an unknown level, or a deadline that is not positive. A stored chunk that is
        damaged is sent at another level or given to the caller to recompute, never sent wrong.
        """
        ...

    @rpc("palimpsest.api.codec.v1.CodecService.Estimate")
    async def estimate(
        self,
        *,
        name: str,
        settings: codec_pb2.LoadSettings | Mapping[str, object],
        timeout: float | None = None,
    ) -> codec_pb2.EstimateResponse:
        """What a load would do on a link of steady bandwidth, and what the fixed ways would do. Loads nothing.

        Parameters
        ----------
        settings
            settings.bandwidth is needed: it is the link's.
        """
        ...

    @rpc("palimpsest.api.codec.v1.CodecService.EncodeCache")
    def encode_cache(
        self,
        requests: AsyncIterable[codec_pb2.EncodeCacheRequest],
        *,
        timeout: float | None = None,
    ) -> AsyncStream[codec_pb2.EncodeCacheResponse]:
        """Encodes a cache and keeps nothing. The first message is the spec, the others carry keys, then values,
        as in PutContext for a single chunk. The answer is one coded chunk for each level, one after another.
        """
        ...

    @rpc("palimpsest.api.codec.v1.CodecService.DecodeCache")
    def decode_cache(
        self,
        requests: AsyncIterable[codec_pb2.DecodeCacheRequest],
        *,
        timeout: float | None = None,
    ) -> AsyncStream[codec_pb2.DecodeCacheResponse]:
        """Decodes a chunk and keeps nothing: its bytes in order, answered by its shape and then its numbers, as
        EncodeCache takes them. DATA_LOSS: the chunk is damaged or cut short; metadata has the offset.
        FAILED_PRECONDITION: its calibration profile is not here. UNIMPLEMENTED: a newer format.
        RESOURCE_EXHAUSTED: it would decode to more than is allowed.
        """
        ...

    @rpc("palimpsest.api.codec.v1.CodecService.Calibrate")
    async def calibrate(
        self,
        *,
        model: str,
        texts: str | None = None,
        documents: int | None = None,
        document_tokens: int | None = None,
        group: int | None = None,
        request_id: str | None = None,
        skip_cache: bool | None = None,
        timeout: float | None = None,
    ) -> AsyncJob[codec_pb2.Profile]:
        """Learns, as a job, how a model's caches are best coded: fewer bytes than the calibration-free codec at the
        same quality. Contexts created afterwards use it; those there are keep theirs.

        Parameters
        ----------
        texts
            Digest of an artefact with sample texts like those to be stored: JSONL with a "text" in each line, or
            plain text. Empty: the Python reference manual and standard library, which every installation has.
        documents
            Texts to use, and tokens of each; 0 for 32 and 1024.
        group
            Layers coded together; 0 for 5. More are smaller, fewer are usable sooner.
        skip_cache
            Calibrate again even if the model's present profile was made with the same texts and settings.
        """
        ...

    @rpc("palimpsest.api.codec.v1.CodecService.GetProfile")
    async def get_profile(
        self,
        *,
        model: str,
        timeout: float | None = None,
    ) -> codec_pb2.Profile:
        """The calibration profile a model's new contexts are coded with. NOT_FOUND: it has none; they use
        "generic".
        """
        ...


class AsyncDatastoreRoom(AsyncRoom):
    """Datastore: corpora that generation can quote from, token by token, with the exact source of every
    quoted byte, and that forget a document at once.

    A corpus is bound to one model (whose tokenizer cuts its documents into tokens) and one sentence
    encoder. A document is raw UTF-8 bytes, kept as they are, under an id; adding the id again makes the
    next version, and the one before is quoted no more. Documents are cut into passages of consecutive
    tokens, which are what is searched, shipped and quoted.

    Every change of a corpus has a number, its epoch. What was acknowledged with an epoch is found by every
    call that asks for at least that min_epoch.
    """

    @rpc("palimpsest.api.datastore.v1.DatastoreService.CreateCorpus")
    async def create_corpus(
        self,
        *,
        corpus_id: str,
        model: str,
        encoder: str | None = None,
        passage_tokens: int | None = None,
        left_context: int | None = None,
        labels: Mapping[str, str] | None = None,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> datastore_pb2.Corpus:
        """Makes an empty corpus. The same request again returns the corpus. ALREADY_EXISTS: the id is taken by
        a corpus of another model, encoder or cut. NOT_FOUND: no such model. FAILED_PRECONDITION: the model's
        tokenizer is not byte-level, or the encoder is not installed.

        Parameters
        ----------
        corpus_id
            The corpus will be corpora/{corpus_id}.
        encoder
            "all-minilm-l6-v2", or "hashed-words", which needs no model and finds words, not meanings. Empty: the
            first.
        passage_tokens
            0 for 128.
        left_context
            0 for 32; -1 for none.
        """
        ...

    @rpc("palimpsest.api.datastore.v1.DatastoreService.GetCorpus")
    async def get_corpus(
        self,
        *,
        name: str,
        timeout: float | None = None,
    ) -> datastore_pb2.Corpus:
        """One corpus, with its counts."""
        ...

    @rpc("palimpsest.api.datastore.v1.DatastoreService.ListCorpora")
    async def list_corpora(
        self,
        *,
        page_size: int | None = None,
        page_token: str | None = None,
        timeout: float | None = None,
    ) -> datastore_pb2.ListCorporaResponse:
        """The caller's corpora, by name.

        Parameters
        ----------
        page_size
            0 for 100; more than 1000 is taken as 1000.
        """
        ...

    @rpc("palimpsest.api.datastore.v1.DatastoreService.DeleteCorpus")
    async def delete_corpus(
        self,
        *,
        name: str,
        timeout: float | None = None,
    ) -> datastore_pb2.DeleteCorpusResponse:
        """Deletes a corpus with everything in it."""
        ...

    @rpc("palimpsest.api.datastore.v1.DatastoreService.AddDocuments")
    def add_documents(
        self,
        requests: AsyncIterable[datastore_pb2.AddDocumentsRequest],
        *,
        timeout: float | None = None,
    ) -> AsyncStream[datastore_pb2.AddDocumentsResponse]:
        """Adds documents of any number: open, then for each document begin, chunks and end. Each is answered
        once it is durable and found by searches (by their words, and by their meaning a moment later); a bad
        one is answered with its error, and the stream goes on. The bytes, title, uri and metadata that an id
        has already change nothing. Errors of a document: INVALID_ARGUMENT: not UTF-8, empty, other bytes
        than begin announced, or a text that the tokenizer does not give back. RESOURCE_EXHAUSTED: too large,
        or too much waits for BuildIndex. Errors of the stream: INVALID_ARGUMENT: messages out of order.
        NOT_FOUND: no such corpus. FAILED_PRECONDITION: the model is not what the corpus was made for.
        """
        ...

    @rpc("palimpsest.api.datastore.v1.DatastoreService.GetDocument")
    def get_document(
        self,
        *,
        corpus: str,
        document: str,
        version: int | None = None,
        byte_start: int | None = None,
        byte_end: int | None = None,
        timeout: float | None = None,
    ) -> AsyncStream[datastore_pb2.GetDocumentResponse]:
        """A document's bytes, or a part of them. OUT_OF_RANGE: the part is not within the document.

        Parameters
        ----------
        version
            NOT_FOUND if it is not the live one; 0: whichever it is.
        byte_end
            0: the end.
        """
        ...

    @rpc("palimpsest.api.datastore.v1.DatastoreService.StatDocument")
    async def stat_document(
        self,
        *,
        corpus: str,
        document: str,
        timeout: float | None = None,
    ) -> datastore_pb2.Document:
        """A document without its bytes."""
        ...

    @rpc("palimpsest.api.datastore.v1.DatastoreService.ListDocuments")
    async def list_documents(
        self,
        *,
        corpus: str,
        page_size: int | None = None,
        page_token: str | None = None,
        timeout: float | None = None,
    ) -> datastore_pb2.ListDocumentsResponse:
        """Documents in an order that means nothing and does not change.

        Parameters
        ----------
        page_size
            0 for 100; more than 1000 is taken as 1000.
        """
        ...

    @rpc("palimpsest.api.datastore.v1.DatastoreService.DeleteDocuments")
    async def delete_documents(
        self,
        *,
        corpus: str,
        documents: Sequence[str],
        timeout: float | None = None,
    ) -> datastore_pb2.DeleteReceipt:
        """Deletes documents. When it returns, the deletion is on disk, no search finds them, and everyone who
        watches deletions has acknowledged it or had its stream broken, after which it must quote nothing.
        Ids that are not there are named in the receipt. Their bytes leave the disk with Purge, or with the
        next Compact that touches them.
        """
        ...

    @rpc("palimpsest.api.datastore.v1.DatastoreService.Search")
    async def search(
        self,
        *,
        corpora: Sequence[str],
        query: str,
        mode: datastore_pb2.SearchMode | str | None = None,
        limit: int | None = None,
        min_epochs: Mapping[str, int] | None = None,
        timeout: float | None = None,
    ) -> datastore_pb2.SearchResponse:
        """The passages that fit a query best. Equal passages come once, with all their owners.
        FAILED_PRECONDITION: DENSE, and no passage has a vector yet: run BuildIndex. ABORTED: a corpus has
        not come to its min_epoch.

        Parameters
        ----------
        limit
            Passages; 0 for 10.
        min_epochs
            By corpus: the epoch that the search has to know of.
        """
        ...

    @rpc("palimpsest.api.datastore.v1.DatastoreService.ContinueText")
    async def continue_text(
        self,
        *,
        corpora: Sequence[str],
        text: str | None = None,
        tokens: datastore_pb2.ContinueTextRequest.Tokens | Mapping[str, object] | Sequence[int] | None = None,
        shortest: int | None = None,
        longest: int | None = None,
        length: int | None = None,
        limit: int | None = None,
        min_epochs: Mapping[str, int] | None = None,
        timeout: float | None = None,
    ) -> datastore_pb2.ContinueTextResponse:
        """What stands in live documents right after the last words of a text, word for word: of the longest suffix
        of the context that stands anywhere and goes on, the different continuations, most frequent first. Finds
        without scores what Search finds by likeness, and stops short of nothing: built or not, every document is
        looked into. FAILED_PRECONDITION: the corpora are of different models, or the text's model is another by
        now. ABORTED: as Search.

        Parameters
        ----------
        shortest
            Fewest and most tokens of the match; 0 for 3 and for 16.
        length
            Tokens of a continuation, fewer where its document ends; 0 for 32.
        limit
            Different continuations; 0 for 8.
        min_epochs
            By corpus: the epoch that has to be known of.
        """
        ...

    @rpc("palimpsest.api.datastore.v1.DatastoreService.OpenSession")
    def open_session(
        self,
        *,
        corpora: Sequence[str],
        query: str,
        model_fingerprint: str,
        passages: int | None = None,
        mode: datastore_pb2.SearchMode | str | None = None,
        min_epochs: Mapping[str, int] | None = None,
        prompt_tail: Sequence[int] | None = None,
        timeout: float | None = None,
    ) -> AsyncStream[datastore_pb2.OpenSessionResponse]:
        """The candidate block of a generation: the best passages, their tokens, and those of their keys that
        are there. First opened, then the block's bytes. Watch deletions as long as it is used. Passages in which
        the prompt's last tokens stand and go on are in it wherever search ranks them: at most two more than asked.
        FAILED_PRECONDITION: a corpus is of another model than model_fingerprint. Otherwise as Search.

        Parameters
        ----------
        model_fingerprint
            Of the model that will quote.
        passages
            Passages; 0 for 8.
        prompt_tail
            The last tokens of the text that is to be continued. Where at least the last eight stand in a document,
            the passages that go on from there come with those that the query finds, behind them.
        """
        ...

    @rpc("palimpsest.api.datastore.v1.DatastoreService.PutKeys")
    async def put_keys(
        self,
        requests: AsyncIterable[datastore_pb2.PutKeysRequest],
        *,
        timeout: float | None = None,
    ) -> datastore_pb2.PutKeysResponse:
        """Keeps token keys that the caller has computed: begin, then blocks. Keys of passages that are gone are
        let pass. FAILED_PRECONDITION: they are of another model than the corpus. INVALID_ARGUMENT: they do
        not fit their passage.
        """
        ...

    @rpc("palimpsest.api.datastore.v1.DatastoreService.WatchDeletions")
    def watch_deletions(
        self,
        requests: AsyncIterable[datastore_pb2.WatchDeletionsRequest],
        *,
        timeout: float | None = None,
    ) -> AsyncStream[datastore_pb2.WatchDeletionsResponse]:
        """Tells of every deletion in some corpora, as long as the stream lives. The first message is watch;
        answer each deletion with acknowledge once nothing of it is used any more: DeleteDocuments waits for
        that, a few seconds, and then ends the stream with ABORTED. Whose stream ends, however it does, must
        quote nothing until it watches again.
        """
        ...

    @rpc("palimpsest.api.datastore.v1.DatastoreService.VerifySpans")
    async def verify_spans(
        self,
        *,
        spans: Sequence[datastore_pb2.VerifySpansRequest.Span | Mapping[str, object]],
        timeout: float | None = None,
    ) -> datastore_pb2.VerifySpansResponse:
        """Whether quotes are, byte for byte, what live documents hold."""
        ...

    @rpc("palimpsest.api.datastore.v1.DatastoreService.BuildIndex")
    async def build_index(
        self,
        *,
        corpus: str,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> AsyncJob[datastore_pb2.Corpus]:
        """Seals what was added into segments that are searched faster and take no memory, as a job; passages
        without vectors get theirs. Adding, deleting and searching go on meanwhile. Asked twice of one state,
        it runs once.
        """
        ...

    @rpc("palimpsest.api.datastore.v1.DatastoreService.WarmKeys")
    async def warm_keys(
        self,
        *,
        corpus: str,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> AsyncJob[datastore_pb2.WarmKeysResult]:
        """Computes the keys of every passage that has none, as a job. Without it they are computed when they
        are first needed.
        """
        ...

    @rpc("palimpsest.api.datastore.v1.DatastoreService.Calibrate")
    async def calibrate(
        self,
        *,
        corpus: str,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> AsyncJob[datastore_pb2.Corpus]:
        """Chooses how quoting weighs the corpus against its model, as a job: from stretches of its documents, each
        searched in the others. It is used by default from then on. FAILED_PRECONDITION: too little text, or only
        one document.
        """
        ...

    @rpc("palimpsest.api.datastore.v1.DatastoreService.Compact")
    async def compact(
        self,
        *,
        corpus: str,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> AsyncJob[datastore_pb2.Corpus]:
        """Merges small segments, and writes those with many deleted documents again without them, as a job."""
        ...

    @rpc("palimpsest.api.datastore.v1.DatastoreService.Purge")
    async def purge(
        self,
        *,
        corpus: str,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> AsyncJob[datastore_pb2.PurgeReceipt]:
        """Removes every byte of deleted documents from the corpus's files, proves it, and gives a receipt, as a
        job. ABORTED: something was left; purge again. DATA_LOSS: a damaged segment cannot be looked into.
        """
        ...

    @rpc("palimpsest.api.datastore.v1.DatastoreService.BuildNgramStore")
    async def build_ngram_store(
        self,
        *,
        store_id: str,
        corpus: str | None = None,
        text_artifact: str | None = None,
        model: str | None = None,
        labels: Mapping[str, str] | None = None,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> AsyncJob[datastore_pb2.NgramStore]:
        """Counts what follows what in a text, as a job: a store of its n-grams, for drafting. From a corpus as it is
        when the job runs, or from a text that was uploaded. The same text under the same name gives the store
        that is there. ALREADY_EXISTS: the name is taken by a store of another text or tokenizer; a corpus that
        has changed since is another text. FAILED_PRECONDITION: no text, another tokenizer than the corpus's, or
        a model that has changed. NOT_FOUND: no such corpus, model or artefact. ABORTED: documents were deleted all
        the while; build again.

        Parameters
        ----------
        store_id
            The store will be ngramStores/{store_id}.
        corpus
            One of the caller's; its live documents.
        text_artifact
            UTF-8: one document, or, with the media type application/jsonl, an object with a "text" in each line.
        model
            Whose tokenizer cuts the text. Needed for an artefact; with a corpus it may be any with the same
            tokenizer as the corpus's own, which is the default.
        """
        ...

    @rpc("palimpsest.api.datastore.v1.DatastoreService.GetNgramStore")
    async def get_ngram_store(
        self,
        *,
        name: str,
        timeout: float | None = None,
    ) -> datastore_pb2.NgramStore:
        """One store."""
        ...

    @rpc("palimpsest.api.datastore.v1.DatastoreService.ListNgramStores")
    async def list_ngram_stores(
        self,
        *,
        page_size: int | None = None,
        page_token: str | None = None,
        timeout: float | None = None,
    ) -> datastore_pb2.ListNgramStoresResponse:
        """The caller's stores, by name.

        Parameters
        ----------
        page_size
            0 for 100; more than 1000 is taken as 1000.
        """
        ...

    @rpc("palimpsest.api.datastore.v1.DatastoreService.DeleteNgramStore")
    async def delete_ngram_store(
        self,
        *,
        name: str,
        timeout: float | None = None,
    ) -> datastore_pb2.DeleteNgramStoreResponse:
        """Deletes a store. Its artefact is free for collection; who has it open goes on."""
        ...

    @rpc("palimpsest.api.datastore.v1.DatastoreService.InspectNgrams")
    async def inspect_ngrams(
        self,
        *,
        name: str,
        text: str | None = None,
        tokens: datastore_pb2.InspectNgramsRequest.Tokens
        | Mapping[str, object]
        | Sequence[int]
        | None = None,
        limit: int | None = None,
        timeout: float | None = None,
    ) -> datastore_pb2.InspectNgramsResponse:
        """What a store says about a text: what follows its last tokens, and how much of it the store knows.
        FAILED_PRECONDITION: the model whose tokenizer cuts texts has another one by now; send token ids.
        DATA_LOSS: the store is damaged; build it again.

        Parameters
        ----------
        limit
            Continuations of each order; 0 for 5.
        """
        ...


class AsyncDecodingRoom(AsyncRoom):
    """Decoding: text from language models, and the probability of text under them."""

    @rpc("palimpsest.api.decoding.v1.DecodingService.Generate")
    def generate(
        self,
        *,
        model: str,
        prompt: str | None = None,
        chat: decoding_pb2.ChatMessages
        | Mapping[str, object]
        | Sequence[decoding_pb2.ChatMessage | Mapping[str, object]]
        | None = None,
        tokens: decoding_pb2.TokenIds | Mapping[str, object] | Sequence[int] | None = None,
        sampling: decoding_pb2.SamplingConfig | Mapping[str, object] | None = None,
        n: int | None = None,
        max_tokens: int | None = None,
        stop: Sequence[str] | None = None,
        logprobs: int | None = None,
        ignore_eos: bool | None = None,
        context: str | None = None,
        context_load: codec_pb2.LoadSettings | Mapping[str, object] | None = None,
        nest: decoding_pb2.NestSettings | Mapping[str, object] | None = None,
        timeout: float | None = None,
    ) -> AsyncStream[decoding_pb2.GenerateResponse]:
        """Streams generated text.

        One GenerateStarted comes first. For each of the n sequences, GenerateDelta events follow as text becomes
        certain, and one SequenceFinished ends it. A delta never holds half a character, nor text that a stop string
        may still remove. To stop early, cancel the call or close the channel: the sequences leave the batch before
        its next step.

        With context: the stored KV cache is streamed in while the engine recomputes the chunks that are cheaper to
        compute than to load. ContextLoaded reports what happened to each chunk. A missing or damaged chunk is
        recomputed from its text. The caller's token also needs codec.read.

        With nest: the text may quote passages of corpora. A QuotedSpan event reports which bytes come from which
        document; SpanRevoked reports that a quoted document has been deleted since. The caller's token also needs
        datastore.read.

        Errors:
          INVALID_ARGUMENT: the prompt is empty, or the prompt plus max_tokens exceeds the model's context length.
            Nothing is truncated silently; ErrorInfo.metadata gives both lengths.
          NOT_FOUND: no such model, context or corpus.
          FAILED_PRECONDITION: the context or a corpus belongs to another model.
          RESOURCE_EXHAUSTED: the queue or the cache memory is full. Wait as long as RetryInfo says and retry.

        Parameters
        ----------
        prompt
            Raw text, tokenized with the model's tokenizer, which adds its leading special tokens if it has any.
        n
            Number of independent sequences; 0 for 1. The prompt is prefilled once.
        max_tokens
            Maximum number of tokens in a sequence; 0 for 256.
        stop
            Generation ends before the first of these to appear in the text; the stop string is not part of the
            output. Matching is on whole characters.
        logprobs
            Report, for each token, its log-probability and those of this many most probable alternatives. 0: the chosen
            token's only; -1 or unset: none.
        ignore_eos
            Continue past the end-of-sequence token.
        context
            A stored context, contexts/{id}, that the prompt continues. The prompt's tokens follow the context's,
            without leading special tokens.
        context_load
            How the context is loaded. The engine fills in what it measures itself (recompute, decode_tokens_per_second,
            sharers) where the request leaves it unset.
        nest
            Corpora whose passages the text may quote, span by span, with their sources.
        """
        ...

    @rpc("palimpsest.api.decoding.v1.DecodingService.Draft")
    def draft(
        self,
        *,
        model: str,
        prompt: str | None = None,
        chat: decoding_pb2.ChatMessages
        | Mapping[str, object]
        | Sequence[decoding_pb2.ChatMessage | Mapping[str, object]]
        | None = None,
        tokens: decoding_pb2.TokenIds | Mapping[str, object] | Sequence[int] | None = None,
        k: int | None = None,
        max_tokens: int | None = None,
        stop: Sequence[str] | None = None,
        ignore_eos: bool | None = None,
        sampling: decoding_pb2.SamplingConfig | Mapping[str, object] | None = None,
        settings: decoding_pb2.DraftSettings | Mapping[str, object] | None = None,
        nest: decoding_pb2.NestSettings | Mapping[str, object] | None = None,
        timeout: float | None = None,
    ) -> AsyncStream[decoding_pb2.DraftResponse]:
        """Streams several short continuations of one prompt at low latency, for autocompletion or for a user to choose
        from.

        DraftsPlanned comes first, then GenerateStarted. DraftDelta events show the drafts while they grow; a later
        delta may rewrite what an earlier one showed. One DraftFinished for each draft, best first, and one
        DraftsFinished end the stream. There are fewer than k drafts where some would have had the same text.

        With settings.ngrams: an n-gram store weighs in where drafts are superposed. The caller's token also needs
        datastore.read.

        With nest: continuations quoted from corpora compete with the model's own drafts, and a draft that was quoted
        names its sources. The caller's token also needs datastore.read.

        Errors:
          INVALID_ARGUMENT: a setting is out of range or does not apply to the strategy; the prompt is empty, or the
            prompt plus max_tokens exceeds the model's context length.
          NOT_FOUND: no such model, n-gram store or corpus.
          FAILED_PRECONDITION: the store was built with another tokenizer, a corpus belongs to another model, or the
            model's cache cannot be cropped, which the strategy needs.
          RESOURCE_EXHAUSTED: as for Generate.

        Parameters
        ----------
        k
            Number of drafts; 0 for 3.
        max_tokens
            Maximum number of tokens in a draft; 0 for 10.
        stop
            A draft ends before the first of these to appear in it, as in GenerateRequest.
        ignore_eos
            Continue past the end-of-sequence token.
        sampling
            How NUCLEUS draws its samples. AUTO considers NUCLEUS instead of BEAM where temperature is set. With
            settings.reset_every, a superposed reset draws its draft where temperature is set.
        settings
            How the drafts are made.
        nest
            Corpora whose passages compete with the model's drafts. A quoted continuation replaces a draft where the
            model gives it a higher probability; if k is more than 1, the best quotation takes at least the last place.
        """
        ...

    @rpc("palimpsest.api.decoding.v1.DecodingService.Score")
    async def score(
        self,
        *,
        model: str,
        text: str | None = None,
        tokens: decoding_pb2.TokenIds | Mapping[str, object] | Sequence[int] | None = None,
        skip_tokens: int | None = None,
        top: int | None = None,
        nest: decoding_pb2.NestSettings | Mapping[str, object] | None = None,
        timeout: float | None = None,
    ) -> decoding_pb2.ScoreResponse:
        """Returns the log-probability of every token of a given text under a model, from one forward pass.

        Parameters
        ----------
        skip_tokens
            Score only the tokens after this many leading tokens; 0 scores everything after the first token.
        top
            Also the log-probabilities of this many most probable tokens at each position.
        nest
            Score under the mixture with corpora: MODE_LM, MODE_KNN_LM or MODE_NEST. Where query is empty, the retrieval
            query is the first skip_tokens tokens, or the first 64 if skip_tokens is 0.
        """
        ...

    @rpc("palimpsest.api.decoding.v1.DecodingService.GenerateBatch")
    async def generate_batch(
        self,
        *,
        model: str,
        input: str,
        sampling: decoding_pb2.SamplingConfig | Mapping[str, object] | None = None,
        n: int | None = None,
        max_tokens: int | None = None,
        stop: Sequence[str] | None = None,
        logprobs: int | None = None,
        request_id: str | None = None,
        skip_cache: bool | None = None,
        timeout: float | None = None,
    ) -> AsyncJob[decoding_pb2.GenerateBatchResponse]:
        """Generates for every line of a JSONL artefact, as a job.

        A line is an object with "prompt" or "messages", and optionally "id" and any of max_tokens, temperature, top_k,
        top_p, min_p, seed, n, stop, logprobs, which override the request's defaults.

        The result artefact has one line for each input line, in order: either {"id", "index", "outputs": [{"text",
        "finish_reason", "prompt_tokens", "generated_tokens", ...}]} or {"id", "index", "error": {"code", "reason",
        "message"}}. A line that is invalid, or that fails, reports its error in its place; the other lines still run.

        Parameters
        ----------
        input
            Digest of a JSONL artefact.
        sampling
            Defaults for lines that set nothing else.
        skip_cache
            Run again even if identical work has a finished result.
        """
        ...

    @rpc("palimpsest.api.decoding.v1.DecodingService.TuneDrafts")
    async def tune_drafts(
        self,
        *,
        model: str,
        ngrams: str,
        texts: str,
        k: int | None = None,
        prefixes: int | None = None,
        request_id: str | None = None,
        skip_cache: bool | None = None,
        timeout: float | None = None,
    ) -> AsyncJob[decoding_pb2.TuneDraftsResponse]:
        """Finds the n-gram weight and the temperature that give the best superposed drafts for a model and an n-gram
        store, as a job.

        It tries a grid and picks the point whose drafts have the lowest perplexity under the model. Afterwards Draft
        uses the result for this model and store wherever a request leaves alpha and temperature unset.

        Errors:
          NOT_FOUND: no such model, store or artefact.
          FAILED_PRECONDITION: the store was built with another tokenizer.
          INVALID_ARGUMENT: the text is too short for a single prefix.

        Parameters
        ----------
        texts
            Digest of a UTF-8 text artefact, representative of the prompts that drafts are for. It must not be part of
            the text that the store was built from.
        k
            Number of drafts for each prefix; 0 for 3.
        prefixes
            Number of prefixes of 15 tokens, spread evenly over the text; 0 for 24.
        skip_cache
            Run again even if identical work has a finished result.
        """
        ...

    @rpc("palimpsest.api.decoding.v1.DecodingService.GetEngineInfo")
    async def get_engine_info(
        self,
        *,
        timeout: float | None = None,
    ) -> decoding_pb2.GetEngineInfoResponse:
        """Returns the engine's limits and load: models in memory, sequences running and waiting, cache use, dtype and
        forward pass.
        """
        ...


class AsyncJobsRoom(AsyncRoom):
    """Jobs: queued work. Every method that may take more than about ten seconds returns a
    google.longrunning.Operation; its metadata is a JobMetadata, its response the type the method names.
    Poll or wait with google.longrunning.Operations, which every server mounts, or watch it here.
    """

    @rpc("palimpsest.api.jobs.v1.JobsService.WatchOperation")
    def watch_operation(
        self,
        *,
        name: str,
        since_revision: int | None = None,
        timeout: float | None = None,
    ) -> AsyncStream[operations_pb2.Operation]:
        """Streams the operation each time its record changes, starting with the present state unless
        since_revision names it already, and ends after the terminal state. Reconnect with the last
        revision seen: no change is missed, though changes close together may arrive as one.
        NOT_FOUND: no such job, or its retention has passed.

        Parameters
        ----------
        name
            "operations/{job_id}".
        since_revision
            Only changes after this revision (JobMetadata.revision) are sent; 0 sends the present state first.
        """
        ...

    @rpc("palimpsest.api.jobs.v1.JobsService.RetryJob")
    async def retry_job(
        self,
        *,
        name: str,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> operations_pb2.Operation:
        """Queues a FAILED or CANCELLED job again, with its attempts counted from zero and its last checkpoint
        kept. The job keeps its name. FAILED_PRECONDITION: the job is queued, running or has succeeded.

        Parameters
        ----------
        name
            "operations/{job_id}".
        request_id
            Makes the call safe to repeat: a second call with the same id returns what the first returned.
        """
        ...


class AsyncModelsRoom(AsyncRoom):
    """Models: what can be loaded, how each is fingerprinted, and what it was made from."""

    @rpc("palimpsest.api.models.v1.ModelService.RegisterModel")
    async def register_model(
        self,
        *,
        model_id: str,
        source: str,
        parent: str | None = None,
        relation: models_pb2.Relation | str | None = None,
        labels: Mapping[str, str] | None = None,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> AsyncJob[models_pb2.Model]:
        """Registers a model from a folder, a GGUF file or a hub id, as a job: the source is checked, a GGUF file is
        converted once to safetensors, weights, tokenizer and config are fingerprinted, and the record appears.
        Nothing is registered unless all of that succeeds. Registering the same id with the same content
        succeeds and changes nothing; with other content it is ALREADY_EXISTS.
        Job errors: INVALID_ARGUMENT (pickled weights, a GGUF cut short, no config), NOT_FOUND (no such source),
        PERMISSION_DENIED (a path outside the server's model roots).

        Parameters
        ----------
        source
            A folder or .gguf file on the server's file system, or "hub:<owner>/<name>[@revision]", or "sample".
        parent
            The model this one was made from, and how.
        """
        ...

    @rpc("palimpsest.api.models.v1.ModelService.GetModel")
    async def get_model(
        self,
        *,
        model_id: str,
        timeout: float | None = None,
    ) -> models_pb2.Model:
        """Call GetModel."""
        ...

    @rpc("palimpsest.api.models.v1.ModelService.ListModels")
    async def list_models(
        self,
        *,
        page_size: int | None = None,
        page_token: str | None = None,
        timeout: float | None = None,
    ) -> models_pb2.ListModelsResponse:
        """Oldest first.

        Parameters
        ----------
        page_size
            0 for 100; more than 1000 is taken as 1000.
        """
        ...

    @rpc("palimpsest.api.models.v1.ModelService.DeleteModel")
    async def delete_model(
        self,
        *,
        model_id: str,
        timeout: float | None = None,
    ) -> models_pb2.DeleteModelResponse:
        """Forgets the record, and deletes the weights if the server made that copy itself (a GGUF conversion); a
        folder that was registered in place is left alone.
        FAILED_PRECONDITION: another model names this one as its parent; delete that one first.
        """
        ...

    @rpc("palimpsest.api.models.v1.ModelService.GetLineage")
    async def get_lineage(
        self,
        *,
        model_id: str,
        timeout: float | None = None,
    ) -> models_pb2.GetLineageResponse:
        """The chain of parents up to the root, nearest first, and the direct children."""
        ...

    @rpc("palimpsest.api.models.v1.ModelService.CheckPair")
    async def check_pair(
        self,
        *,
        base: str,
        donor: str,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> AsyncJob[models_pb2.PairReport]:
        """Compares two models tensor by tensor, as a job: may weights of one be put into the other, and what moved?
        Reads one pair of tensors at a time; time grows with the number of parameters.
        """
        ...
