"""The rooms with their RPCs as typed methods. Generated from protos/ by deploy/client.py."""

# ruff: noqa: D417

from collections.abc import AsyncIterable, Mapping, Sequence

from google.longrunning import operations_pb2

from palimpsest.api.artifacts.v1 import artifacts_pb2
from palimpsest.api.codec.v1 import codec_pb2
from palimpsest.api.datastore.v1 import datastore_pb2
from palimpsest.api.decoding.v1 import decoding_pb2
from palimpsest.api.grafting.v1 import grafting_pb2
from palimpsest.api.models.v1 import models_pb2
from palimpsest.api.unlearning.v1 import unlearning_pb2
from palimpsest.client.aio.jobs import AsyncJob
from palimpsest.client.aio.listing import AsyncListing
from palimpsest.client.aio.rpc import AsyncRoom, rpc
from palimpsest.client.aio.streams import AsyncStream


class AsyncArtifactsRoom(AsyncRoom):
    """Artefacts are immutable bytes named by their SHA-256 digest. Inputs and results of jobs, models and caches
    are artefacts. They are transferred here in chunks of at most 1 MiB, never inside another message.

    To upload, call FindMissing with the digests you have, and WriteArtifact for each missing one. To refer to
    an artefact, pass its digest. Artefacts that nothing refers to are deleted by CollectGarbage after a grace
    time.

    An artefact exists to those who hold it: who has sent its bytes, and who was given it as a result of a job or
    as a part of a context or an n-gram store. To everybody else it is NOT_FOUND, as if nobody had stored it, and a
    job cannot read it for them. Where the server's setting PALIMPSEST_ARTIFACT_DIGEST_IS_CAPABILITY is on, whoever
    knows a digest may read the artefact as well. A token with the scope "admin.artifacts", which "*" includes,
    reaches all.
    """

    @rpc("palimpsest.api.artifacts.v1.ArtifactService.WriteArtifact")
    async def write_artifact(
        self,
        requests: AsyncIterable[artifacts_pb2.WriteArtifactRequest],
        *,
        timeout: float | None = None,
    ) -> artifacts_pb2.Artifact:
        """Uploads one artefact. Send open once, then chunks in order, then finish.

        If the caller holds an artefact with the digest given in open, it is returned at once: nothing needs to be
        sent. Who sends all the bytes becomes a holder. If the stream breaks, call QueryWriteStatus and continue from
        committed_size in a new stream with the same upload_id. CollectGarbage deletes uploads that have not been
        continued for the grace time.

        Errors:
        * OUT_OF_RANGE: a chunk's offset is not the number of bytes received. Resume from committed_size in
          ErrorInfo.metadata.
        * DATA_LOSS: a chunk does not match its CRC-32: send it again. Or the bytes do not have the declared
          digest: the upload is empty again; send it from offset 0.
        * RESOURCE_EXHAUSTED: the artefact is too large; or the store is full: free space, then resume.
        * ABORTED: another stream is writing this upload: retry when it has ended. Or the server waited too long
          for the next message: continue from committed_size in a new stream.
        * INVALID_ARGUMENT: messages are out of order, or the upload was started with other properties.
        """
        ...

    @rpc("palimpsest.api.artifacts.v1.ArtifactService.QueryWriteStatus")
    async def query_write_status(
        self,
        *,
        upload_id: str,
        timeout: float | None = None,
    ) -> artifacts_pb2.QueryWriteStatusResponse:
        """Returns the progress of an upload: continue from committed_size.

        Errors:
        * NOT_FOUND: the upload was never started, or expired. Start it from offset 0.
        """
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
        """Streams an artefact's bytes, or a range of them. All bytes are verified before the stream ends without
        error: a whole read against the digest, and a partial read chunk by chunk.

        Errors:
        * NOT_FOUND: there is no such artefact, or the caller does not hold it. Upload it.
        * OUT_OF_RANGE: offset is past the end. ErrorInfo.metadata has the size_bytes.
        * DATA_LOSS: the stored bytes are damaged, and are never served again. Discard what you have read, and
          upload the artefact again.
        * UNAVAILABLE: a read returned wrong bytes, but the stored bytes are intact. Read again.

        Parameters
        ----------
        offset
            Offset of the first byte to send.
        limit
            Maximum number of bytes to send; 0 means all.
        """
        ...

    @rpc("palimpsest.api.artifacts.v1.ArtifactService.GetArtifact")
    async def get_artifact(
        self,
        *,
        digest: str,
        timeout: float | None = None,
    ) -> artifacts_pb2.Artifact:
        """Returns an artefact's properties, and which of the caller's jobs and resources refer to it.

        Errors:
        * NOT_FOUND: there is no such artefact, or the caller does not hold it.
        """
        ...

    @rpc("palimpsest.api.artifacts.v1.ArtifactService.ListArtifacts")
    async def list_artifacts(
        self,
        *,
        page_size: int | None = None,
        page_token: str | None = None,
        timeout: float | None = None,
    ) -> AsyncListing[artifacts_pb2.Artifact]:
        """Lists the artefacts that the caller holds, newest first.

        Parameters
        ----------
        page_size
            Maximum number of results; 0 means 100, and values above 1000 mean 1000.
        """
        ...

    @rpc("palimpsest.api.artifacts.v1.ArtifactService.FindMissing")
    async def find_missing(
        self,
        *,
        digests: Sequence[str] | None = None,
        timeout: float | None = None,
    ) -> artifacts_pb2.FindMissingResponse:
        """Returns the digests that the caller has to upload: those that the store does not have, and those of artefacts
        that the caller does not hold.
        """
        ...

    @rpc("palimpsest.api.artifacts.v1.ArtifactService.DeleteArtifact")
    async def delete_artifact(
        self,
        *,
        digest: str,
        timeout: float | None = None,
    ) -> artifacts_pb2.DeleteArtifactResponse:
        """Gives an artefact up. Its bytes are deleted once nobody holds it and nothing refers to it. With the scope
        "admin.artifacts" they are deleted at once, whoever holds it.

        Errors:
        * NOT_FOUND: there is no such artefact, or the caller does not hold it.
        * FAILED_PRECONDITION: a job or resource of the caller's refers to it. Delete those first;
          ErrorInfo.metadata names them.
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
        """Starts a job that deletes artefacts that nothing refers to, abandoned uploads and damaged bytes, if they
        are older than the grace time, whoever holds them. With dry_run it only counts them. An administrator's:
        it needs the scope "admin.artifacts".

        Parameters
        ----------
        grace_seconds
            Minimum age, in seconds, of what is deleted; 0 means the server's setting.
        dry_run
            Count what would be deleted, and delete nothing.
        """
        ...


class AsyncCodecRoom(AsyncRoom):
    """Codec: the KV cache of a long context, computed once, stored as small bitstreams, and streamed to
    clients that need it.

    A context is a text under a model. Its cache is cut into chunks of consecutive tokens. Each chunk is
    stored at several levels, from "near-lossless" to "smallest" (and "lossless" if asked for). The token
    ids are stored with them, so that any chunk can be recomputed. Loading chooses, for each chunk, a
    level or "recompute".

    A context belongs to the caller who stored it. Others neither find nor list it, and may use its id for a
    context of their own. A calibration profile is the model's, and all callers share it.

    Loss is what a coded cache does to predictions: the Kullback-Leibler divergence from the model's
    predictions with the exact cache to those with the decoded one, mean over the tokens that follow, in
    nats a token. The loss told of a chunk at a level is an upper bound for this chunk, meant to hold for 95
    of 100 chunks of any text. CreateContext has the model and measures: each decoded form takes the place
    of the exact chunk, the model reads on (what follows in the text, and a question), and twice the
    divergence is told. PutContext and EncodeCache estimate: four times the level's mean on ordinary text,
    and more where the errors are unlike those of ordinary text. A level's own coder may lose more on a
    chunk than the level stands for (sixteen times the divergence it is meant for); the chunk is then
    stored under the level's name by a finer coder, without loss if need be. The loss of several chunks is
    the mean of theirs, weighted by tokens.
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
        """Prefills a text and stores its cache at every level, as a job.

        The context appears as a whole or not at all. Sending the same text, model and settings under the
        same id again returns the stored context.

        Errors, from the call or the job:
        * NOT_FOUND: the model or the text artefact does not exist.
        * ALREADY_EXISTS: the id belongs to another context. Use another id, or delete that context.
        * INVALID_ARGUMENT: there is no text, or it is longer than the model's context length.
        * FAILED_PRECONDITION: the codec needs a calibration profile and the model has none. Call
          Calibrate, or use "generic".
        * UNIMPLEMENTED: some layer of the model does not keep every position.

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
        """Stores a cache that the caller has computed.

        Send the spec first, then the elements of the cache, chunk by chunk: a chunk's keys, then its
        values, each [layers, kv_heads, tokens, dim] in row-major order, little-endian. Nothing is stored
        if the stream ends early.

        Errors:
        * INVALID_ARGUMENT: shape, element type or number of bytes differ from the spec, or an element is
          not finite.
        * FAILED_PRECONDITION: the shape is not that of the model.
        * ALREADY_EXISTS: see CreateContext.
        """
        ...

    @rpc("palimpsest.api.codec.v1.CodecService.GetContext")
    async def get_context(
        self,
        *,
        name: str,
        first_chunk: int | None = None,
        timeout: float | None = None,
    ) -> codec_pb2.Context:
        """Returns one of the caller's contexts with its chunks, or with as many as fit a message, from first_chunk
        on.

        Errors:
        * NOT_FOUND: there is no such context.
        * OUT_OF_RANGE: it does not have first_chunk.

        Parameters
        ----------
        first_chunk
            The chunk that chunks begins with: where the message before ended.
        """
        ...

    @rpc("palimpsest.api.codec.v1.CodecService.ListContexts")
    async def list_contexts(
        self,
        *,
        page_size: int | None = None,
        page_token: str | None = None,
        model: str | None = None,
        timeout: float | None = None,
    ) -> AsyncListing[codec_pb2.Context]:
        """Lists the caller's contexts without their chunks, oldest first.

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
        """Deletes a context. Loads that have begun go on. Its bytes are removed by the next garbage
        collection.

        Errors:
        * NOT_FOUND: there is no such context.
        """
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
        """Finds the caller's context that shares the longest prefix with a text, in whole chunks.

        Load it with chunks set to the number found. A response without a name means that nothing is stored
        for this text.
        """
        ...

    @rpc("palimpsest.api.codec.v1.CodecService.LoadContext")
    def load_context(
        self,
        requests: AsyncIterable[codec_pb2.LoadContextRequest],
        *,
        timeout: float | None = None,
    ) -> AsyncStream[codec_pb2.LoadContextResponse]:
        """Streams a context, choosing the level of each chunk by the speed of the link and of the receiver.

        The caller sends begin, and then reports what it has received, recomputed or found damaged. The
        server sends opened and the token ids, then chunks from the back of the context and orders to
        recompute chunks from the front, until the two meet, and finally ended. Each chunk and each order
        comes with the decision behind it.

        A quarter of a second of the measured bandwidth, and never more than window_bytes, is on the way
        without a receipt, so that an order is not long behind data. A caller that recomputes need not
        wait for orders: where the stream is slower than the text, it recomputes what is missing and says
        so (recomputing), and it may leave once it has everything. A caller that stops reading stops the
        stream, and one that disconnects ends it. A stored chunk that is damaged is sent at another level
        or given to the caller to recompute; damaged data is never used.

        Errors:
        * NOT_FOUND: there is no such context.
        * FAILED_PRECONDITION: the context belongs to another model than model_fingerprint.
        * INVALID_ARGUMENT: a level is unknown, MODE_QUALITY has no deadline, or a report is malformed: it
          is about a chunk that this load does not have, has not sent or has not ordered. The field is
          named.
        * OUT_OF_RANGE: the context does not have the chunks asked for.
        * DEADLINE_EXCEEDED: the receiver reported nothing for too long. Load the context again.
        * DATA_LOSS: a chunk cannot be read at any level, and the receiver cannot recompute.
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
        """Simulates a load on a link of steady bandwidth, and loads at each fixed level for comparison. Loads
        nothing.

        Parameters
        ----------
        settings
            settings.bandwidth is required: the bandwidth of the link.
        """
        ...

    @rpc("palimpsest.api.codec.v1.CodecService.EncodeCache")
    def encode_cache(
        self,
        requests: AsyncIterable[codec_pb2.EncodeCacheRequest],
        *,
        timeout: float | None = None,
    ) -> AsyncStream[codec_pb2.EncodeCacheResponse]:
        """Encodes a cache without storing it.

        Send the spec first, then keys and values as in PutContext, for a single chunk. The response is one
        coded chunk for each level, one after another.
        """
        ...

    @rpc("palimpsest.api.codec.v1.CodecService.DecodeCache")
    def decode_cache(
        self,
        requests: AsyncIterable[codec_pb2.DecodeCacheRequest],
        *,
        timeout: float | None = None,
    ) -> AsyncStream[codec_pb2.DecodeCacheResponse]:
        """Decodes a chunk without storing it.

        Send the bytes of the chunk in order. The response is its shape, then its elements in the order of
        EncodeCache.

        Errors:
        * DATA_LOSS: the chunk is damaged or cut short. The metadata has the offset.
        * FAILED_PRECONDITION: the chunk's calibration profile is not on this server.
        * UNIMPLEMENTED: a newer version of the format wrote it.
        * RESOURCE_EXHAUSTED: it would decode to more bytes than the server allows.
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
        """Learns how to code a model's caches in fewer bytes at the same quality, as a job.

        Contexts created afterwards use the new profile; existing contexts keep theirs.

        Errors, from the call or the job:
        * NOT_FOUND: the model or the artefact with texts does not exist.
        * INVALID_ARGUMENT: the texts are too short.
        * FAILED_PRECONDITION: the model's files have changed since it was registered.
        * UNIMPLEMENTED: some layer of the model does not keep every position.

        Parameters
        ----------
        texts
            Digest of an artefact with sample texts like those to be stored: JSONL with a "text" in each line,
            or plain text. Empty: the Python reference manual and standard library, which every installation
            has.
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
        """Returns the calibration profile that new contexts of a model are coded with.

        Errors:
        * NOT_FOUND: the model has none, and its contexts use "generic".
        """
        ...


class AsyncDatastoreRoom(AsyncRoom):
    """The datastore keeps corpora that generation can quote from, token by token, with the exact source of
    every quoted byte. Deleting a document takes effect at once.

    Corpora and documents. A corpus is bound to one model, whose tokenizer turns its documents into tokens,
    and to one sentence encoder. A document is raw UTF-8 bytes under an id; the bytes are stored unchanged.
    Adding an id again creates its next version, and the version before can no longer be quoted. Documents
    are divided into passages of consecutive tokens. Passages are the unit of search, transfer and quoting.

    Epochs. Every change of a corpus has a number, its epoch. To read your own writes, pass the epoch of an
    acknowledged change as min_epoch: the call then sees at least that change, or fails with ABORTED.

    Tombstones. The epoch of a corpus's last deletion is its tombstone_version. A client that quotes opens a
    session with OpenSession, watches deletions with WatchDeletions, and stops quoting deleted documents
    before it acknowledges them.

    A typical client calls CreateCorpus, AddDocuments, BuildIndex, then Search or OpenSession.
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
        """Creates an empty corpus. Repeating the request returns the same corpus.

        Errors:
        * ALREADY_EXISTS: a corpus with this id has another model, encoder, passage length or labels. Use
          another id, or delete it first.
        * NOT_FOUND: the model is not registered. Register it first.
        * FAILED_PRECONDITION: the model's tokenizer is not byte-level, or the encoder is not installed.

        Parameters
        ----------
        corpus_id
            The corpus will be named "corpora/{corpus_id}".
        encoder
            Sentence encoder: "all-minilm-l6-v2", the default, or "hashed-words", which needs no model and matches
            words, not meanings.
        passage_tokens
            Tokens in a passage; 0 means 128.
        left_context
            Tokens before a passage that its keys are conditioned on; 0 means 32, and -1 none.
        """
        ...

    @rpc("palimpsest.api.datastore.v1.DatastoreService.GetCorpus")
    async def get_corpus(
        self,
        *,
        name: str,
        timeout: float | None = None,
    ) -> datastore_pb2.Corpus:
        """Returns one corpus with its counts and sizes."""
        ...

    @rpc("palimpsest.api.datastore.v1.DatastoreService.ListCorpora")
    async def list_corpora(
        self,
        *,
        page_size: int | None = None,
        page_token: str | None = None,
        timeout: float | None = None,
    ) -> AsyncListing[datastore_pb2.Corpus]:
        """Lists the caller's corpora by name, without sizes.

        Parameters
        ----------
        page_size
            Maximum number of results; 0 means 100, and values above 1000 mean 1000.
        """
        ...

    @rpc("palimpsest.api.datastore.v1.DatastoreService.DeleteCorpus")
    async def delete_corpus(
        self,
        *,
        name: str,
        timeout: float | None = None,
    ) -> datastore_pb2.DeleteCorpusResponse:
        """Deletes a corpus and everything in it. The streams of its watchers end with ABORTED."""
        ...

    @rpc("palimpsest.api.datastore.v1.DatastoreService.AddDocuments")
    def add_documents(
        self,
        requests: AsyncIterable[datastore_pb2.AddDocumentsRequest],
        *,
        timeout: float | None = None,
    ) -> AsyncStream[datastore_pb2.AddDocumentsResponse]:
        """Adds any number of documents. Send open once, then begin, chunks and end for each document.

        Each document is answered once it is durable and searches find it by its words. Searches by meaning
        find it a moment later, when its passages are encoded; documents of more than 512 passages are encoded
        by BuildIndex. A document equal to the live version (same bytes, title, uri and metadata) changes
        nothing. When the new version replaces an older one, the answer waits for watchers as in
        DeleteDocuments.

        A refused document is answered with its error, and the stream continues:
        * INVALID_ARGUMENT: it is empty, not UTF-8, not the bytes that begin declared, or the tokenizer does
          not decode its tokens to the same bytes.
        * RESOURCE_EXHAUSTED: it is too large; or the corpus has too many unsealed tokens: run BuildIndex.

        Errors that end the stream:
        * INVALID_ARGUMENT: messages are out of order.
        * NOT_FOUND: there is no such corpus.
        * FAILED_PRECONDITION: the model or encoder has changed since the corpus was created.
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
        """Streams a document, or a byte range of it: first its properties, then its bytes.

        Errors:
        * NOT_FOUND: there is no such document, or another version is live.
        * OUT_OF_RANGE: the range is not within the document. ErrorInfo.metadata has its size_bytes.
        * DATA_LOSS: the document may be in a damaged segment. Add it again, or restore the corpus.

        Parameters
        ----------
        version
            The version, which must be live; 0 means whichever version is live.
        byte_end
            End of the range, exclusive; 0 means the end of the document.
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
        """Returns a document's properties without its bytes."""
        ...

    @rpc("palimpsest.api.datastore.v1.DatastoreService.ListDocuments")
    async def list_documents(
        self,
        *,
        corpus: str,
        page_size: int | None = None,
        page_token: str | None = None,
        timeout: float | None = None,
    ) -> AsyncListing[datastore_pb2.Document]:
        """Lists the live documents. The order is arbitrary but stable: additions and deletions between two pages
        do not make the listing skip or repeat other documents.

        Parameters
        ----------
        page_size
            Maximum number of results; 0 means 100, and values above 1000 mean 1000.
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
        """Deletes documents, and waits until nobody quotes them any more.

        When the call returns, the deletion is durable and no search finds the documents. Every watcher of the
        corpus has acknowledged it, or has had its stream broken and must quote nothing. Watchers have a few
        seconds to acknowledge (PALIMPSEST_DATASTORE_ACKNOWLEDGE_SECONDS).

        Ids that the corpus does not have are listed in the receipt as missing; that is not an error. The bytes
        of deleted documents stay on disk until Purge, or until a Compact rewrites their segment.
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
        """Finds the passages that match a query best. Passages with equal tokens are returned once, with the
        other documents that hold them as owners.

        The mode selects the index: SPARSE matches words (BM25), DENSE matches meaning (passage vectors), and
        HYBRID, the default, fuses both. Damaged segments are skipped and listed in the response.

        Errors:
        * FAILED_PRECONDITION: the mode is DENSE and no passage has a vector yet. Run BuildIndex.
        * ABORTED: a corpus has not reached its min_epoch. Retry.

        Parameters
        ----------
        limit
            Maximum number of passages; 0 means 10.
        min_epochs
            By corpus name: the epoch that the search must have reached.
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
        """Finds what follows the last words of a text, verbatim, in live documents.

        The longest suffix of the context that occurs in a document and is not the document's end is matched,
        over all corpora together. The distinct continuations of its occurrences are returned, most frequent
        first. All documents are searched, sealed or not. Use Search to find passages by similarity instead.

        Errors:
        * INVALID_ARGUMENT: there is no context, or shortest is larger than longest.
        * FAILED_PRECONDITION: the corpora are bound to different models, or their model has changed.
        * ABORTED: a corpus has not reached its min_epoch. Retry.

        Parameters
        ----------
        shortest
            Minimum length of the match in tokens; 0 means 3.
        longest
            Maximum length of the match in tokens; 0 means 16.
        length
            Tokens of a continuation, fewer at the end of a document; 0 means 32.
        limit
            Maximum number of distinct continuations; 0 means 8.
        min_epochs
            By corpus name: the epoch that the call must have reached.
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
        """Returns the candidate block for a generation: the best passages with their tokens, byte offsets, and
        the token keys that are stored. The first message is opened, and the others carry the block's bytes.

        Up to two more passages than requested are added if the prompt's last tokens occur in them, so that a
        quote that the prompt has started can be continued whatever the query finds.

        Watch deletions with WatchDeletions for as long as the block is in use. Compute missing keys yourself,
        and store them for the next session with PutKeys.

        Errors:
        * FAILED_PRECONDITION: a corpus is bound to another model than model_fingerprint; or as in Search.
        * ABORTED: a corpus has not reached its min_epoch. Retry.

        Parameters
        ----------
        model_fingerprint
            Fingerprint of the model that will quote.
        passages
            Number of passages; 0 means 8.
        min_epochs
            By corpus name: the epoch that the search must have reached.
        prompt_tail
            The prompt's last token ids. If at least the last eight occur in a document, the passages that continue
            them are added after those that the query finds.
        """
        ...

    @rpc("palimpsest.api.datastore.v1.DatastoreService.PutKeys")
    async def put_keys(
        self,
        requests: AsyncIterable[datastore_pb2.PutKeysRequest],
        *,
        timeout: float | None = None,
    ) -> datastore_pb2.PutKeysResponse:
        """Stores token keys that the caller has computed. Send begin once, then one block for each passage. Keys
        of deleted passages are skipped and counted.

        Errors:
        * FAILED_PRECONDITION: the corpus is bound to another model than the one that computed the keys.
        * INVALID_ARGUMENT: there is no such passage, its arrays have the wrong size, or a value is negative
          or not finite.
        """
        ...

    @rpc("palimpsest.api.datastore.v1.DatastoreService.WatchDeletions")
    def watch_deletions(
        self,
        requests: AsyncIterable[datastore_pb2.WatchDeletionsRequest],
        *,
        timeout: float | None = None,
    ) -> AsyncStream[datastore_pb2.WatchDeletionsResponse]:
        """Streams every deletion in some corpora, for as long as the stream is open.

        Send watch first. The server answers with the current tombstone_version of each corpus: discard a
        candidate block that knows only an earlier one. Then, for each deletion, stop using the documents and
        send acknowledge. DeleteDocuments waits for acknowledgements for a few seconds, and then ends the
        stream with ABORTED.

        If the stream ends for any reason, quote nothing until a new one is open.

        Errors:
        * ABORTED: a deletion was not acknowledged in time, or a corpus was deleted. Stop quoting and reopen.
        """
        ...

    @rpc("palimpsest.api.datastore.v1.DatastoreService.VerifySpans")
    async def verify_spans(
        self,
        *,
        spans: Sequence[datastore_pb2.VerifySpansRequest.Span | Mapping[str, object]],
        timeout: float | None = None,
    ) -> datastore_pb2.VerifySpansResponse:
        """Verifies quotes against the live documents, byte for byte. Each span gets a verdict; a missing document
        is a verdict, not an error.
        """
        ...

    @rpc("palimpsest.api.datastore.v1.DatastoreService.BuildIndex")
    async def build_index(
        self,
        *,
        corpus: str,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> AsyncJob[datastore_pb2.Corpus]:
        """Starts a job that seals added documents into segments, which are searched faster and take no memory,
        and encodes passages that have no vector yet. Documents can be added, deleted and searched meanwhile.
        Repeating the call while the corpus is unchanged returns the same operation.

        The job fails with ABORTED if a later job took over the corpus. Start it again.
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
        """Starts a job that computes the token keys of every passage without keys. It is optional: otherwise the
        decoder computes keys when a passage is first quoted, and the first quotes are slower.
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
        """Starts a job that chooses how quoting weighs this corpus against its model. Excerpts of the documents
        are searched in the other documents, and the parameters with the best likelihood are stored in the
        corpus. Sessions use them by default from then on.

        The job fails with FAILED_PRECONDITION if there is too little text, or only one document.
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
        """Starts a job that merges small segments, and rewrites segments with many deleted documents without
        them. It frees space, but proves nothing: use Purge to have deleted bytes removed for certain.
        """
        ...

    @rpc("palimpsest.api.datastore.v1.DatastoreService.Purge")
    async def purge(
        self,
        *,
        corpus: str,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> AsyncJob[datastore_pb2.PurgeReceipt]:
        """Starts a job that removes every byte of deleted documents from the corpus's files. It rewrites the
        segments that hold them, deletes their keys, scans every file for the deleted texts, and returns a
        receipt.

        The job fails with:
        * ABORTED: a file still has deleted bytes, or a later job took over the corpus. Purge again.
        * DATA_LOSS: a segment is damaged, so its contents are unknown. Restore it, or delete the corpus.
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
        """Starts a job that counts the n-grams of a text into a store, for drafting. The text is either a corpus,
        as it is when the job runs, or an uploaded artefact. Building the same text under the same id again
        returns the existing store.

        Errors, from the call or the job:
        * ALREADY_EXISTS: a store with this id has another text, tokenizer or labels. A corpus that has changed
          counts as another text. Use another id.
        * FAILED_PRECONDITION: there is no text, the model's tokenizer is not the corpus's, or the model has
          changed.
        * INVALID_ARGUMENT: the artefact is not UTF-8, or a line of it is not a document.
        * NOT_FOUND: there is no such corpus, model or artefact.
        * ABORTED: documents were deleted during every attempt. Build again once deletions have stopped.

        Parameters
        ----------
        store_id
            The store will be named "ngramStores/{store_id}".
        corpus
            Count the live documents of one of the caller's corpora.
        text_artifact
            Count an uploaded UTF-8 text. It is one document or, with the media type application/jsonl, one JSON
            object with a "text" per line.
        model
            The model whose tokenizer is used. Required with text_artifact. With corpus, any model with the same
            tokenizer as the corpus's model, which is the default.
        """
        ...

    @rpc("palimpsest.api.datastore.v1.DatastoreService.GetNgramStore")
    async def get_ngram_store(
        self,
        *,
        name: str,
        timeout: float | None = None,
    ) -> datastore_pb2.NgramStore:
        """Returns one n-gram store."""
        ...

    @rpc("palimpsest.api.datastore.v1.DatastoreService.ListNgramStores")
    async def list_ngram_stores(
        self,
        *,
        page_size: int | None = None,
        page_token: str | None = None,
        timeout: float | None = None,
    ) -> AsyncListing[datastore_pb2.NgramStore]:
        """Lists the caller's n-gram stores by name.

        Parameters
        ----------
        page_size
            Maximum number of results; 0 means 100, and values above 1000 mean 1000.
        """
        ...

    @rpc("palimpsest.api.datastore.v1.DatastoreService.DeleteNgramStore")
    async def delete_ngram_store(
        self,
        *,
        name: str,
        timeout: float | None = None,
    ) -> datastore_pb2.DeleteNgramStoreResponse:
        """Deletes an n-gram store. Its artefact can be garbage-collected; processes that have it open keep it."""
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
        """Reports what a store knows about a text: the continuations of its last tokens, and its coverage.

        Errors:
        * INVALID_ARGUMENT: a token id is not in the vocabulary.
        * FAILED_PRECONDITION: the tokenizer of the store's model has changed. Send token ids instead of text.
        * DATA_LOSS: the store is damaged. Build it again.

        Parameters
        ----------
        limit
            Maximum number of continuations of each order; 0 means 5.
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
        cache_salt: str | None = None,
        min_tokens: int | None = None,
        stop_token_ids: Sequence[int] | None = None,
        bad_words: Sequence[str] | None = None,
        structured: decoding_pb2.StructuredOutput | Mapping[str, object] | None = None,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        min_p: float | None = None,
        seed: int | None = None,
        repetition_penalty: float | None = None,
        presence_penalty: float | None = None,
        frequency_penalty: float | None = None,
        logit_bias: Mapping[int, float] | None = None,
        messages: decoding_pb2.ChatMessages
        | Mapping[str, object]
        | Sequence[decoding_pb2.ChatMessage | Mapping[str, object]]
        | None = None,
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
          RESOURCE_EXHAUSTED: the queue or the cache memory is full, or you have your share of the requests that
          may run and wait. Wait as long as RetryInfo says and retry.

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
        cache_salt
            Cached prefixes are shared by requests of one caller with an equal cache_salt, and by no others. Set it to
            keep the users of one caller apart, such as to a secret of each user; empty is a value like the others.
        min_tokens
            No end-of-sequence token and none of stop_token_ids before this many tokens.
        stop_token_ids
            Tokens that end a sequence, with the reason STOP and without text of their own.
        bad_words
            Texts that are not generated: the last token of each, as it stands and after a space, is never chosen where
            its other tokens come before it. The same text in other tokens can still come out.
        structured
            What the text must be. A form that cannot be honoured is refused before the first token. Stop strings and
            stop_token_ids may still cut the text. Where bad_words and min_tokens leave no token that the form
            allows, the form counts. Not with nest, nor with ignore_eos.
        temperature, top_k, top_p, min_p, seed, repetition_penalty, presence_penalty, frequency_penalty, logit_bias
            Fields of ``sampling``, given beside it.
        messages
            The same as ``chat``.
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
        cache_salt: str | None = None,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        min_p: float | None = None,
        seed: int | None = None,
        repetition_penalty: float | None = None,
        presence_penalty: float | None = None,
        frequency_penalty: float | None = None,
        logit_bias: Mapping[int, float] | None = None,
        messages: decoding_pb2.ChatMessages
        | Mapping[str, object]
        | Sequence[decoding_pb2.ChatMessage | Mapping[str, object]]
        | None = None,
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
        cache_salt
            As in GenerateRequest.
        temperature, top_k, top_p, min_p, seed, repetition_penalty, presence_penalty, frequency_penalty, logit_bias
            Fields of ``sampling``, given beside it.
        messages
            The same as ``chat``.
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
        min_tokens: int | None = None,
        stop_token_ids: Sequence[int] | None = None,
        bad_words: Sequence[str] | None = None,
        structured: decoding_pb2.StructuredOutput | Mapping[str, object] | None = None,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        min_p: float | None = None,
        seed: int | None = None,
        repetition_penalty: float | None = None,
        presence_penalty: float | None = None,
        frequency_penalty: float | None = None,
        logit_bias: Mapping[int, float] | None = None,
        timeout: float | None = None,
    ) -> AsyncJob[decoding_pb2.GenerateBatchResponse]:
        """Generates for every line of a JSONL artefact, as a job.

        A line is an object with "prompt" or "messages", and optionally "id" or "custom_id" and any of max_tokens,
        temperature, top_k, top_p, min_p, seed, n, stop, logprobs, repetition_penalty, presence_penalty,
        frequency_penalty, logit_bias, min_tokens, stop_token_ids, bad_words, structured, which override the request's
        defaults. In structured, json_schema is the schema itself and choice a list of texts.

        Blank lines are left out, and not counted. A line named by "custom_id" has that in its result too, beside "id".

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
        min_tokens
            As in GenerateRequest; a line may set its own.
        temperature, top_k, top_p, min_p, seed, repetition_penalty, presence_penalty, frequency_penalty, logit_bias
            Fields of ``sampling``, given beside it.
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
        uses the result for this model and store wherever a request leaves alpha and temperature unset. Each
        TuneDraftsResponse.Trial is also a partial result of the job, in the order of the response.

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
        """Returns the engine's limits: models in memory, with their dtype, forward pass and cache memory. A token
        with the scope "admin.engines" also learns what the engines do for all callers together.
        """
        ...


class AsyncGraftingRoom(AsyncRoom):
    """Grafting shows where a fine-tuned fact is extracted and recalled: a prompt goes through one model, the
    base, but at chosen tokens, layers and components the weights of another, the donor, act instead.
    What the base passes on is never overwritten; only the mechanism that acts there is another one. If the
    answer of the donor appears, the weights grafted are enough for it.

    A component is a norm or a matrix of a layer, with its bias: "attention_norm", "q", "k", "v", "o",
    "mlp_norm", "gate", "up", "down"; or "embedding", "final_norm" or "head". Groups: "attention" (q, k, v),
    "ffn" (gate, up, down), "norms", "layer" (all of a layer) and "all". Embedding and head are two
    components even where they are one matrix.

    Positions are tokens of the prompt, from 0. Name them by text or characters, which the server turns into
    tokens, or by index.

    A pair need not be a model and its fine-tuned child. With a model before and after a removal as base and
    donor, or the other way round, grafts tell whether a fact is gone or only hidden.

    A typical client calls CheckPair, Graft for a first look, SweepGrafts for all layers and tokens, then
    reads the artefact with the cells.
    """

    @rpc("palimpsest.api.grafting.v1.GraftingService.CheckPair")
    async def check_pair(
        self,
        *,
        pair: grafting_pb2.ModelPair | Mapping[str, object],
        prompt: str | None = None,
        timeout: float | None = None,
    ) -> grafting_pb2.PairCheck:
        """Says whether two models can be grafted, and how far apart they are: the norm of the change for each
        layer and component, and with a prompt how differently they predict after each of its tokens.

        Loads both models, which takes seconds to minutes the first time. A pair that cannot be grafted is an
        answer, not an error.

        Errors:
        * NOT_FOUND: there is no such model.
        * FAILED_PRECONDITION: a model's files are not what was registered. Register it again.

        Parameters
        ----------
        prompt
            Compare the predictions after each of its tokens; empty: do not.
        """
        ...

    @rpc("palimpsest.api.grafting.v1.GraftingService.Graft")
    async def graft(
        self,
        *,
        pair: grafting_pb2.ModelPair | Mapping[str, object],
        case: grafting_pb2.Case | Mapping[str, object],
        patches: Sequence[grafting_pb2.GraftPatch | Mapping[str, object]],
        untie: bool | None = None,
        contrast: str | None = None,
        timeout: float | None = None,
    ) -> grafting_pb2.GraftResponse:
        """Runs one configuration over a prompt and reads how it predicts the target, beside both models' own
        passes.

        Errors; ErrorInfo.reason tells them apart:
        * INVALID_ARGUMENT: a span is not in the prompt (SPAN_NOT_FOUND), is there more than once
          (SPAN_AMBIGUOUS; say which occurrence) or ends within a token (SPAN_SPLITS_TOKEN; metadata has the
          token's characters). A position, layer or component does not exist (POSITION_OUT_OF_RANGE,
          LAYER_OUT_OF_RANGE, COMPONENT_OUT_OF_RANGE). Nothing is selected (EMPTY_GRAFT). Embedding or head
          alone is selected where they are one matrix (TIED_WEIGHTS_AMBIGUOUS; set untie). Prompt and target
          are longer than the models' context (PROMPT_TOO_LONG).
        * NOT_FOUND: there is no such model.
        * FAILED_PRECONDITION: the models differ in architecture or size (ARCH_MISMATCH; the violations name
          every difference) or in their tokenizers (TOKENIZER_MISMATCH); the architecture cannot be grafted
          (UNSUPPORTED_ARCH), weights are NaN or infinite (NON_FINITE_WEIGHTS), or a model's files are not
          what was registered (MODEL_CHANGED).
        * RESOURCE_EXHAUSTED: too many grafts wait. Send it again later.

        Parameters
        ----------
        patches
            Where two overlap, the later one counts.
        untie
            Embedding or head may be grafted alone although they are one matrix.
        contrast
            Another continuation to read too, such as the answer before a fine-tuning or a removal: whether the
            graft brings the old answer back tells if it is gone or only hidden. Empty: none.
        """
        ...

    @rpc("palimpsest.api.grafting.v1.GraftingService.GenerateGrafted")
    def generate_grafted(
        self,
        *,
        pair: grafting_pb2.ModelPair | Mapping[str, object],
        prompt: str,
        patches: Sequence[grafting_pb2.GraftPatch | Mapping[str, object]] | None = None,
        untie: bool | None = None,
        max_new_tokens: int | None = None,
        decoding: grafting_pb2.GraftDecoding | str | None = None,
        timeout: float | None = None,
    ) -> AsyncStream[grafting_pb2.GeneratedToken]:
        """Generates greedily after a grafted prompt: the configuration acts on the prompt's tokens, and on
        generated ones the weights that "decoding" names, through one cache. One GeneratedToken for each token,
        as it is chosen; the last one says why it is the last.

        To stop early, cancel the call. Other calls run between the tokens.

        Errors: as of Graft. INVALID_ARGUMENT also: prompt and max_new_tokens are longer than the models'
        context (PROMPT_TOO_LONG).

        Parameters
        ----------
        patches
            Where two overlap, the later one counts; none: the base generates.
        untie
            Embedding or head may be grafted alone although they are one matrix.
        max_new_tokens
            0: 32.
        """
        ...

    @rpc("palimpsest.api.grafting.v1.GraftingService.PlanGrafts")
    async def plan_grafts(
        self,
        *,
        pair: grafting_pb2.ModelPair | Mapping[str, object],
        cases: Sequence[grafting_pb2.Case | Mapping[str, object]],
        axes: grafting_pb2.SweepAxes | Mapping[str, object] | None = None,
        untie: bool | None = None,
        skip_cache: bool | None = None,
        request_id: str | None = None,
        mode: grafting_pb2.SweepMode | str | None = None,
        preview: grafting_pb2.PreviewOptions | Mapping[str, object] | None = None,
        sufficient: grafting_pb2.SufficientSearch | Mapping[str, object] | None = None,
        timeout: float | None = None,
    ) -> grafting_pb2.GraftPlan:
        """Says what a sweep would cost, and runs nothing: only configs and the tokenizer are read. The request is
        the one of SweepGrafts, and checked as there.

        Errors: as of SweepGrafts, but for those that only weights tell (NON_FINITE_WEIGHTS, MODEL_CHANGED).

        Parameters
        ----------
        axes
            The same for each case.
        skip_cache
            Run although an equal sweep was done.
        preview
            Of the modes that estimate.
        sufficient
            For each window and set of components, look for a small set of selections (or tokens) that is enough.
        """
        ...

    @rpc("palimpsest.api.grafting.v1.GraftingService.SweepGrafts")
    async def sweep_grafts(
        self,
        *,
        pair: grafting_pb2.ModelPair | Mapping[str, object],
        cases: Sequence[grafting_pb2.Case | Mapping[str, object]],
        axes: grafting_pb2.SweepAxes | Mapping[str, object] | None = None,
        untie: bool | None = None,
        skip_cache: bool | None = None,
        request_id: str | None = None,
        mode: grafting_pb2.SweepMode | str | None = None,
        preview: grafting_pb2.PreviewOptions | Mapping[str, object] | None = None,
        sufficient: grafting_pb2.SufficientSearch | Mapping[str, object] | None = None,
        timeout: float | None = None,
    ) -> AsyncJob[grafting_pb2.GraftSweep]:
        """Grafts every cell of a grid, as a job: each position or selection, with each window of layers, with
        each set of components, for each case. Cells of one case share what they have in common with the
        models' own passes, so that a sweep costs a fraction of as many passes.

        Batches of finished cells are partial results of the job (SweptCells) and are kept: after a worker
        dies, another goes on with those that are missing, and the table is the same, byte for byte, on the
        same kind of machine and number of threads.

        Errors, from the call or the job: as of Graft, each with the case's field; and
        * INVALID_ARGUMENT: the grid has more than 100,000 cells, or the subsets of a case more than 16,384 rows
          (GRAFTS_TOO_MANY). Use wider windows, fewer cases, or fewer or later segments. With subsets, two
          segments have a token in common, or there are none or more than 8 (INVALID_REQUEST).

        Parameters
        ----------
        axes
            The same for each case.
        skip_cache
            Run although an equal sweep was done.
        preview
            Of the modes that estimate.
        sufficient
            For each window and set of components, look for a small set of selections (or tokens) that is enough.
        """
        ...


class AsyncJobsRoom(AsyncRoom):
    """Jobs: queued work. Every method that may take more than about ten seconds returns a
    google.longrunning.Operation. Its metadata is a JobMetadata, its response the type the method names.
    Poll or wait with google.longrunning.Operations, which every server mounts, or watch the job here.

    A job belongs to the caller who submitted it. To everybody else it does not exist: Get, Wait, Watch,
    Cancel, Delete and Retry answer NOT_FOUND, and List leaves it out. A token with the scope "admin.jobs"
    reaches every job.
    """

    @rpc("palimpsest.api.jobs.v1.JobsService.WatchOperation")
    def watch_operation(
        self,
        *,
        name: str,
        since_revision: int | None = None,
        since_partial: int | None = None,
        timeout: float | None = None,
    ) -> AsyncStream[operations_pb2.Operation]:
        """Streams the operation: its present state, then again each time its record changes. Ends after the
        terminal state.

        Reconnect with the last revision and the last partial result seen: no change and no partial result is
        missed or repeated. Changes close together may arrive as one.

        Errors:
        - NOT_FOUND: no such job, its retention has passed, or it is another caller's.

        Parameters
        ----------
        name
            "operations/{job_id}".
        since_revision
            Only changes after this revision (JobMetadata.revision) are sent; 0 sends the present state first.
        since_partial
            Also send partial results, in JobMetadata.partials: those after this sequence number, 0 for all. Unset:
            none are sent.
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
        kept. The job keeps its name; its partial results are dropped.

        Errors:
        - FAILED_PRECONDITION: the job is queued, is running or has succeeded.
        - NOT_FOUND: no such job, its retention has passed, or it is another caller's.

        Parameters
        ----------
        name
            "operations/{job_id}".
        request_id
            Makes the call safe to repeat: a second call with the same id returns what the first returned.
        """
        ...


class AsyncModelsRoom(AsyncRoom):
    """Models: which can be loaded, what identifies each, and which model each was made from."""

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
        """Registers a model from a folder, a GGUF file or a hub id, as a job.

        The job checks the source, converts a GGUF file to safetensors once, and fingerprints weights,
        tokenizer and config. The record is added last, so nothing is registered unless everything
        succeeded. Registering the same content under the same id again succeeds and changes nothing.

        Errors, from the call or the job:
        * INVALID_ARGUMENT: the source has pickled weights, an incomplete GGUF file or no config, or is not
          a causal LM. Or its tensors are not all those of the model that its config describes, and no others: the
          message names them. Copy the model again with all its files, or correct its config.
        * NOT_FOUND: the source or the parent does not exist.
        * PERMISSION_DENIED: the path is outside the server's model roots.
        * ALREADY_EXISTS: the id belongs to a model with other content. Use another id, or delete that
          model.
        * RESOURCE_EXHAUSTED: the disk has no room for the converted weights. Free space, then retry the job.

        Parameters
        ----------
        source
            A folder or .gguf file on the server's file system, or "hub:<owner>/<name>[@revision]", or
            "sample".
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
        """Returns one model.

        Errors:
        * NOT_FOUND: there is no such model.
        """
        ...

    @rpc("palimpsest.api.models.v1.ModelService.ListModels")
    async def list_models(
        self,
        *,
        page_size: int | None = None,
        page_token: str | None = None,
        timeout: float | None = None,
    ) -> AsyncListing[models_pb2.Model]:
        """Lists models, oldest first.

        Parameters
        ----------
        page_size
            Most models of a page; 0 for 100, at most 1000.
        """
        ...

    @rpc("palimpsest.api.models.v1.ModelService.DeleteModel")
    async def delete_model(
        self,
        *,
        model_id: str,
        timeout: float | None = None,
    ) -> models_pb2.DeleteModelResponse:
        """Deletes a model's record, and its weights if the server made that copy itself, by converting a GGUF
        file or by training. A folder that was registered in place is left alone.

        Errors:
        * NOT_FOUND: there is no such model.
        * FAILED_PRECONDITION: the model is the parent of another. Delete that one first.
        """
        ...

    @rpc("palimpsest.api.models.v1.ModelService.GetLineage")
    async def get_lineage(
        self,
        *,
        model_id: str,
        timeout: float | None = None,
    ) -> models_pb2.GetLineageResponse:
        """Returns a model's ancestors, nearest first, and its direct children.

        Errors:
        * NOT_FOUND: there is no such model.
        """
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
        """Compares two models tensor by tensor, as a job: whether weights of one fit into the other, and
        which differ.

        The job reads one pair of tensors at a time. Its duration grows with the number of parameters.

        Errors:
        * NOT_FOUND: there is no such model.
        """
        ...

    @rpc("palimpsest.api.models.v1.ModelService.FineTune")
    async def fine_tune(
        self,
        *,
        base: str,
        train: str,
        model_id: str | None = None,
        validation: str | None = None,
        format: models_pb2.ExampleFormat | str | None = None,
        steps: int | None = None,
        epochs: float | None = None,
        batch: int | None = None,
        micro_batch: int | None = None,
        learning_rate: float | None = None,
        schedule: models_pb2.LearningRateSchedule | str | None = None,
        warmup_steps: int | None = None,
        weight_decay: float | None = None,
        clip: float | None = None,
        seed: int | None = None,
        context: int | None = None,
        lora: models_pb2.LoraConfig | Mapping[str, object] | None = None,
        checkpoint_every: int | None = None,
        validate_every: int | None = None,
        labels: Mapping[str, str] | None = None,
        request_id: str | None = None,
        devices: int | None = None,
        timeout: float | None = None,
    ) -> AsyncJob[models_pb2.FineTuned]:
        """Trains a registered model on examples, and registers the result as its child, as a job. Like every
        model it can be used by all callers, whoever holds the examples.

        AdamW lowers the mean negative log-likelihood of the tokens that count. The weights are trained in float32 and
        stored so. With a LoRA adapter only the adapter is trained; it is merged into the weights before the model is
        registered, or kept apart as an artefact. Each step's loss is in the job's stage.

        The job leaves checkpoints in the artefact store: after a worker dies or is stopped, another goes on from the
        last one. On the same kind of machine the result is the same, bit for bit, as that of a run without
        interruption. A cancelled job stops within one step. The record is added last, so nothing is registered unless
        everything succeeded.

        Errors, from the call or the job:
        * INVALID_ARGUMENT: a line of the examples cannot be used: metadata["line"] is its number. Or no token counts.
          Or a setting is impossible, or the adapter does not fit the model: the violations name the fields.
        * NOT_FOUND: there is no such model or artefact.
        * ALREADY_EXISTS: the new id belongs to a model. Use another id, or delete that model.
        * FAILED_PRECONDITION: the loss or the gradient was no longer finite: metadata["step"] says where. Use a lower
          learning rate, or a warm-up. Or the base's files are not what was registered: register it again. Or the base
          is quantised: train the model it was made from.
        * FAILED_PRECONDITION: the training is for more devices than the worker has: metadata gives both numbers.
          Ask for fewer, or retry the job where there are enough.
        * RESOURCE_EXHAUSTED: the disk has no room for a checkpoint or the result. Free space, then retry the job: it
          goes on from its last checkpoint.
        * UNAVAILABLE: a device of several was lost. Retry the job: it goes on from its last checkpoint.

        Parameters
        ----------
        base
            Id of the model to train; its weights stay as they are.
        train
            Digest of the artefact with the examples.
        model_id
            Id of the new model. Required, except with lora.unmerged.
        validation
            Digest of an artefact with examples for the validation curve; none for no curve.
        format
            Of both artefacts.
        steps
            Optimiser steps.
        epochs
            Passes over all examples, which need not be a whole number; rounded up to whole steps.
        batch
            Examples of one optimiser step; 0 for 8.
        micro_batch
            Most examples of one forward pass; 0 for the whole batch. Less needs less memory, and changes nothing else.
        learning_rate
            The highest learning rate; 0 for 1e-5, or with an adapter 1e-4.
        warmup_steps
            Steps at the start in which the learning rate rises linearly.
        weight_decay
            AdamW's, on matrices.
        clip
            Largest norm of the gradient; 0 for no limit, unset for 1.
        seed
            Decides the order of the examples and the adapter's first weights.
        context
            Most tokens of an example; longer ones are cut into windows. 0 for 1024, or less where the model's
            context is shorter.
        lora
            Train an adapter; unset trains all weights.
        checkpoint_every
            Steps between two checkpoints; 0 for one every few minutes.
        validate_every
            Steps between two values of the validation curve; 0 for one after the last step.
        labels
            Of the new model.
        devices
            Devices of one worker that share each batch, with a copy of the model each. Steps and effective batch stay
            what they are, and the result is that of one device but for rounding. 0 for all GPUs that the worker sees,
            or one process on a CPU. At most the batch. A training goes on with as many devices as it began with.
        """
        ...


class AsyncUnlearningRoom(AsyncRoom):
    """Unlearning carries out removal requests: it takes documents and answers out of a model's weights,
    deletes them from the stores they were put into, measures what is left, and signs a certificate of
    what was done and measured.

    A request names a model, a forget set, the algorithm, and the id of the model that is made. The model
    it names is not changed. What the certificate attests is process and measurements: removal from
    weights is approximate, and no measurement proves that nothing is left.

    Data sets are artefacts in JSON Lines: a document is {"id", "text"}, a question {"id", "question",
    "answer"} and, if it has some, {"aliases": [...], "paraphrases": [...], "doc_id"}. Lines of both kinds
    may be in one file.
    Ids are shown in errors, records, logs and certificates, and so must not themselves be what is to be
    forgotten; texts never are.

    States. A request that was received is HELD until it is approved, or QUEUED. Requests on models of
    one lineage (all that have one root) run one after another, in the order in which they were received
    or approved; others run at the same time. A running one resolves its data, purges stores, trains,
    evaluates, attacks what it made, and decides; its job tells the stage, and JobsService.WatchOperation
    follows it. A run whose loss is no longer finite ends the request with the verdict DIVERGED; that is
    no error. Cancel the job to cancel the request.

    A typical client calls PreviewRemoval, CreateRemovalRequest, JobsService.WatchOperation, then
    GetCertificate.
    """

    @rpc("palimpsest.api.unlearning.v1.UnlearningService.PreviewRemoval")
    async def preview_removal(
        self,
        *,
        plan: unlearning_pb2.RemovalPlan | Mapping[str, object],
        timeout: float | None = None,
    ) -> unlearning_pb2.RemovalPreview:
        """Reads the data of a plan and says what a request would do, without recording anything.

        Errors: as of CreateRemovalRequest, but for FORGET_RETAIN_OVERLAP, FORGET_HOLDOUT_OVERLAP and
        HOLDOUT_RETAIN_OVERLAP, which the answer lists instead.
        """
        ...

    @rpc("palimpsest.api.unlearning.v1.UnlearningService.CreateRemovalRequest")
    async def create_removal_request(
        self,
        *,
        plan: unlearning_pb2.RemovalPlan | Mapping[str, object],
        removal_id: str | None = None,
        hold: bool | None = None,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> AsyncJob[unlearning_pb2.RemovalRequest]:
        """Records a removal request and queues its job, or holds it until it is approved.

        Sending a request again with the same removal_id or request_id and the same content returns the
        same operation.

        Errors, from the call or the job; ErrorInfo.reason tells them apart:
        * INVALID_ARGUMENT: the forget set is empty (FORGET_SET_EMPTY); the algorithm is unknown
          (ALGORITHM_UNKNOWN), makes no model (ALGORITHM_NOT_TRAINED: the message says what to use instead),
          needs a retain set (RETAIN_REQUIRED), answers (ALGORITHM_INPUT_MISSING) or a model to start with
          (START_REQUIRED, START_INVALID), or does not take one of the hyper-parameters
          (ALGORITHM_PARAMETER_INVALID); a search has nothing to choose from (SEARCH_INVALID), or a set is
          too small for its halves (SPLIT_EMPTY); a line of a data set is malformed (DATASET_LINE_INVALID;
          metadata has the line, and nothing repeats what is in it), or the set cannot be used
          (DATASET_INVALID); a stopping
          rule lacks references (REFERENCE_REQUIRED) or a holdout set, or parts of the plan do not fit each
          other (INVALID_REQUEST); an attack lacks what it works on (ATTACK_INVALID); a reference is the
          model itself (REFERENCE_INVALID); or texts to forget are also in the retain set
          (FORGET_RETAIN_OVERLAP; metadata lists the ids): training would teach them again. Take them out
          of the retain set. Texts of the holdout set that are in the forget set (FORGET_HOLDOUT_OVERLAP) or
          the retain set (HOLDOUT_RETAIN_OVERLAP) are refused as well: they are not unseen.
        * FAILED_PRECONDITION: a reference has another tokenizer (TOKENIZER_MISMATCH); the model's files
          have changed (MODEL_CHANGED), or its tokenizer fails (MODEL_INVALID); removals have lost more
          utility than the budget allows (UTILITY_BUDGET_EXHAUSTED: train again without the data, keep the
          data in adapters by shard, or allow more); or, of the job, a store still has what was deleted
          (STORE_NOT_EMPTY), or a reference lacks a metric of the stopping rule (REFERENCE_MISSING).
        * NOT_FOUND: a model, a data set, a corpus, an n-gram store or a context does not exist
          (MODEL_NOT_FOUND, ARTIFACT_NOT_FOUND, CORPUS_NOT_FOUND, NGRAM_STORE_NOT_FOUND, CONTEXT_NOT_FOUND).
        * ALREADY_EXISTS: the removal_id or request_id was used with other content (REMOVAL_EXISTS), or
          new_model is taken (MODEL_EXISTS). Use another.
        * RESOURCE_EXHAUSTED: too many of the caller's requests are held (REMOVALS_HELD). Approve or cancel
          some.
        * ABORTED: of the job's attempt alone, a later one writes to the lineage now (FENCE_LOST).
        * DATA_LOSS: a checkpoint (CHECKPOINT_DAMAGED) or a data set is damaged.

        Parameters
        ----------
        removal_id
            The request will be removalRequests/{removal_id}; empty: an id of the server's.
        hold
            Hold it until it is approved.
        """
        ...

    @rpc("palimpsest.api.unlearning.v1.UnlearningService.GetRemovalRequest")
    async def get_removal_request(
        self,
        *,
        name: str,
        timeout: float | None = None,
    ) -> unlearning_pb2.RemovalRequest:
        """Returns one of the caller's requests.

        Errors:
        * NOT_FOUND: there is no such request (REMOVAL_NOT_FOUND).
        """
        ...

    @rpc("palimpsest.api.unlearning.v1.UnlearningService.ListRemovalRequests")
    async def list_removal_requests(
        self,
        *,
        page_size: int | None = None,
        page_token: str | None = None,
        timeout: float | None = None,
    ) -> AsyncListing[unlearning_pb2.RemovalRequest]:
        """Lists the caller's requests, oldest first, without measurements, attacks and evidence.

        Errors:
        * INVALID_ARGUMENT: page_token is none of this list's (PAGE_TOKEN_INVALID). Begin without one.

        Parameters
        ----------
        page_size
            0 for 100; more than 1000 is taken as 1000.
        """
        ...

    @rpc("palimpsest.api.unlearning.v1.UnlearningService.HoldRemovalRequest")
    async def hold_removal_request(
        self,
        *,
        name: str,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> unlearning_pb2.RemovalRequest:
        """Holds a request that has not begun to run. It loses its place in the line.

        Errors:
        * NOT_FOUND: there is no such request (REMOVAL_NOT_FOUND).
        * FAILED_PRECONDITION: it runs or has ended (REMOVAL_STATE). Cancel the job of one that runs.
        * RESOURCE_EXHAUSTED: too many of the caller's requests are held (REMOVALS_HELD).
        """
        ...

    @rpc("palimpsest.api.unlearning.v1.UnlearningService.ApproveRemovalRequest")
    async def approve_removal_request(
        self,
        *,
        name: str,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> unlearning_pb2.RemovalRequest:
        """Lets a held request run. Approving one that is not held changes nothing.

        Errors:
        * NOT_FOUND: there is no such request (REMOVAL_NOT_FOUND).
        * FAILED_PRECONDITION: it has ended (REMOVAL_STATE).
        """
        ...

    @rpc("palimpsest.api.unlearning.v1.UnlearningService.RollBackRemovalRequest")
    async def roll_back_removal_request(
        self,
        *,
        name: str,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> unlearning_pb2.RemovalRequest:
        """Takes a finished request back: its certificate is revoked and the model that it made is deleted,
        weights too. Stores that were purged stay purged.

        Errors:
        * NOT_FOUND: there is no such request (REMOVAL_NOT_FOUND).
        * FAILED_PRECONDITION: it has not succeeded (REMOVAL_STATE), or its model is the parent of another
          one (MODEL_HAS_CHILDREN). Delete that one first.
        """
        ...

    @rpc("palimpsest.api.unlearning.v1.UnlearningService.GetCertificate")
    async def get_certificate(
        self,
        *,
        name: str,
        timeout: float | None = None,
    ) -> unlearning_pb2.Certificate:
        """Returns the certificate of a finished request, with what verifies it.

        Errors:
        * NOT_FOUND: there is no such request (REMOVAL_NOT_FOUND), or the public key that verifies its
          certificate is no longer among the installation's (KEY_NOT_FOUND). Restore it from a backup.
        * FAILED_PRECONDITION: it has not succeeded, or no model was made, so there is no certificate
          (CERTIFICATE_MISSING).
        """
        ...

    @rpc("palimpsest.api.unlearning.v1.UnlearningService.ReadAuditLog")
    def read_audit_log(
        self,
        *,
        offset: int | None = None,
        timeout: float | None = None,
    ) -> AsyncStream[unlearning_pb2.ReadAuditLogResponse]:
        """Streams the caller's audit log: what happened to each of the caller's requests, in lines of which
        each has the hash of the one before. Verifying a certificate needs it.

        Errors:
        * OUT_OF_RANGE: offset is past its end (OFFSET_PAST_END).

        Parameters
        ----------
        offset
            Bytes to skip: where a stream before ended.
        """
        ...
