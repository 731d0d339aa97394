"""The datastore's streams, for both clients: documents split into messages, candidate blocks joined from them."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from palimpsest.api.datastore.v1 import datastore_pb2
from palimpsest.errors import DataLoss, PalimpsestError, Reason
from palimpsest.status import from_status

_CHUNK = 256 << 10


@dataclass(frozen=True)
class NewDocument:
    """A document to add.

    Attributes
    ----------
    document
        Its id in the corpus.
    data
        UTF-8 text, as bytes or str.
    """

    document: str
    data: bytes | str
    title: str = ""
    uri: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    media_type: str = ""


def parts_of(document: NewDocument) -> Iterator[dict[str, Any]]:
    """Yield a document as the parts of the messages that carry it."""
    data = document.data.encode() if isinstance(document.data, str) else document.data
    begin = datastore_pb2.AddDocumentsRequest.Begin(
        document=document.document,
        title=document.title,
        uri=document.uri,
        metadata=document.metadata,
        media_type=document.media_type,
        size_bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
    )
    yield {"begin": begin}
    for at in range(0, len(data), _CHUNK):
        yield {"chunk": data[at : at + _CHUNK]}
    yield {"end": datastore_pb2.AddDocumentsRequest.End()}


def refusal(answer: datastore_pb2.AddDocumentsResponse) -> PalimpsestError | None:
    """The error with which a document was refused, or None."""
    return from_status(answer.error) if answer.HasField("error") else None


class BlockBytes:
    """Collects a candidate block from its parts."""

    def __init__(self) -> None:
        self.opened = datastore_pb2.OpenSessionResponse.Opened()
        self._data = bytearray()

    def take(self, part: datastore_pb2.OpenSessionResponse) -> None:
        """Take the next message."""
        if part.HasField("opened"):
            self.opened = part.opened
        self._data += part.data

    def finish(self) -> bytes:
        """The whole block.

        Raises
        ------
        DataLoss
            CANDIDATES_INVALID: these are not the bytes that were announced.
        """
        data = bytes(self._data)
        if len(data) != self.opened.size_bytes or hashlib.sha256(data).hexdigest() != self.opened.sha256:
            message = f"The block came with {len(data)} bytes, not the {self.opened.size_bytes} announced."
            raise DataLoss(Reason.CANDIDATES_INVALID, message)
        return data
