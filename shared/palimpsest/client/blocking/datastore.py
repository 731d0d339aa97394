"""Corpora: documents in and out whole, candidate blocks, and every RPC."""

# Made from client/aio/datastore.py by deploy/client.py; edit that.

from collections.abc import Iterable, Iterator, Sequence

from palimpsest.api.datastore.v1 import datastore_pb2
from palimpsest.client.blocking.rooms import DatastoreRoom
from palimpsest.client.blocking.streams import Stream
from palimpsest.client.corpora import BlockBytes, NewDocument, parts_of


class Datastore(DatastoreRoom):
    """The datastore: every RPC, and documents and blocks in one piece."""

    def add(
        self,
        corpus: str,
        documents: Iterable[NewDocument],
        *,
        defer_vectors: bool = False,
        defer_build: bool = False,
        timeout: float | None = None,
    ) -> Stream[datastore_pb2.AddDocumentsResponse]:
        """Add documents; iterate over what became of each, in their order.

        A document that was refused has ``error`` set (``palimpsest.client.corpora.refusal`` makes an exception of it);
        the others are added all the same.

        Parameters
        ----------
        corpus
            ``corpora/{id}``.
        documents
            Read as they are sent, so they may be many.
        defer_vectors, defer_build
            As in the contract (AddDocumentsRequest.Open).
        timeout
            Seconds; by default as long as it takes.
        """

        def parts() -> Iterator[datastore_pb2.AddDocumentsRequest]:
            opening = datastore_pb2.AddDocumentsRequest.Open(
                corpus=corpus, defer_vectors=defer_vectors, defer_build=defer_build
            )
            yield datastore_pb2.AddDocumentsRequest(open=opening)
            for document in documents:
                for part in parts_of(document):
                    yield datastore_pb2.AddDocumentsRequest(**part)

        return self.add_documents(parts(), timeout=timeout)

    def read(self, corpus: str, document: str, *, timeout: float | None = None) -> bytes:
        """Return all bytes of a document.

        Raises
        ------
        NotFound
            There is no such document (any more).
        """
        data = bytearray()
        with self.get_document(corpus=corpus, document=document, timeout=timeout) as stream:
            for part in stream:
                data += part.data
        return bytes(data)

    def session(
        self,
        query: str,
        corpora: Sequence[str],
        *,
        model_fingerprint: str,
        passages: int = 0,
        prompt_tail: Sequence[int] = (),
        timeout: float | None = None,
    ) -> bytes:
        """Return the candidate block for a query; ``palimpsest.candidates.Candidates.from_bytes`` reads it.

        Parameters
        ----------
        query, corpora, model_fingerprint, passages, prompt_tail
            As in the contract (OpenSessionRequest).
        timeout
            Seconds; by default as long as it takes.

        Raises
        ------
        FailedPrecondition
            A corpus is of another model.
        DataLoss
            The block was damaged on the way.
        """
        block = BlockBytes()
        stream = self.open_session(
            query=query,
            corpora=corpora,
            model_fingerprint=model_fingerprint,
            passages=passages,
            prompt_tail=prompt_tail,
            timeout=timeout,
        )
        with stream:
            for part in stream:
                block.take(part)
        return block.finish()
