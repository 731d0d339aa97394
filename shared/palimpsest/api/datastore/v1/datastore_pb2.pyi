import datetime

from google.longrunning import operations_pb2 as _operations_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.rpc import status_pb2 as _status_pb2
from palimpsest.api.options.v1 import options_pb2 as _options_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SearchMode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SEARCH_MODE_UNSPECIFIED: _ClassVar[SearchMode]
    SEARCH_MODE_HYBRID: _ClassVar[SearchMode]
    SEARCH_MODE_DENSE: _ClassVar[SearchMode]
    SEARCH_MODE_SPARSE: _ClassVar[SearchMode]
SEARCH_MODE_UNSPECIFIED: SearchMode
SEARCH_MODE_HYBRID: SearchMode
SEARCH_MODE_DENSE: SearchMode
SEARCH_MODE_SPARSE: SearchMode

class Corpus(_message.Message):
    __slots__ = ("name", "model", "model_fingerprint", "tokenizer_fingerprint", "encoder", "passage_tokens", "left_context", "key_size", "epoch", "tombstone_version", "document_count", "passage_count", "token_count", "unsealed_tokens", "segment_count", "size_bytes", "key_bytes", "key_blocks", "quarantined_segments", "lost_records", "create_time", "labels", "calibration")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    MODEL_FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    TOKENIZER_FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    ENCODER_FIELD_NUMBER: _ClassVar[int]
    PASSAGE_TOKENS_FIELD_NUMBER: _ClassVar[int]
    LEFT_CONTEXT_FIELD_NUMBER: _ClassVar[int]
    KEY_SIZE_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    TOMBSTONE_VERSION_FIELD_NUMBER: _ClassVar[int]
    DOCUMENT_COUNT_FIELD_NUMBER: _ClassVar[int]
    PASSAGE_COUNT_FIELD_NUMBER: _ClassVar[int]
    TOKEN_COUNT_FIELD_NUMBER: _ClassVar[int]
    UNSEALED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    SEGMENT_COUNT_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    KEY_BYTES_FIELD_NUMBER: _ClassVar[int]
    KEY_BLOCKS_FIELD_NUMBER: _ClassVar[int]
    QUARANTINED_SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    LOST_RECORDS_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    CALIBRATION_FIELD_NUMBER: _ClassVar[int]
    name: str
    model: str
    model_fingerprint: str
    tokenizer_fingerprint: str
    encoder: str
    passage_tokens: int
    left_context: int
    key_size: int
    epoch: int
    tombstone_version: int
    document_count: int
    passage_count: int
    token_count: int
    unsealed_tokens: int
    segment_count: int
    size_bytes: int
    key_bytes: int
    key_blocks: int
    quarantined_segments: _containers.RepeatedScalarFieldContainer[str]
    lost_records: int
    create_time: _timestamp_pb2.Timestamp
    labels: _containers.ScalarMap[str, str]
    calibration: Calibration
    def __init__(self, name: _Optional[str] = ..., model: _Optional[str] = ..., model_fingerprint: _Optional[str] = ..., tokenizer_fingerprint: _Optional[str] = ..., encoder: _Optional[str] = ..., passage_tokens: _Optional[int] = ..., left_context: _Optional[int] = ..., key_size: _Optional[int] = ..., epoch: _Optional[int] = ..., tombstone_version: _Optional[int] = ..., document_count: _Optional[int] = ..., passage_count: _Optional[int] = ..., token_count: _Optional[int] = ..., unsealed_tokens: _Optional[int] = ..., segment_count: _Optional[int] = ..., size_bytes: _Optional[int] = ..., key_bytes: _Optional[int] = ..., key_blocks: _Optional[int] = ..., quarantined_segments: _Optional[_Iterable[str]] = ..., lost_records: _Optional[int] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., labels: _Optional[_Mapping[str, str]] = ..., calibration: _Optional[_Union[Calibration, _Mapping]] = ...) -> None: ...

class Calibration(_message.Message):
    __slots__ = ("mu", "alpha", "tau", "r", "beta", "model_fingerprint", "positions", "novel", "nll_lm", "nll", "novel_nll_lm", "novel_nll")
    MU_FIELD_NUMBER: _ClassVar[int]
    ALPHA_FIELD_NUMBER: _ClassVar[int]
    TAU_FIELD_NUMBER: _ClassVar[int]
    R_FIELD_NUMBER: _ClassVar[int]
    BETA_FIELD_NUMBER: _ClassVar[int]
    MODEL_FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    POSITIONS_FIELD_NUMBER: _ClassVar[int]
    NOVEL_FIELD_NUMBER: _ClassVar[int]
    NLL_LM_FIELD_NUMBER: _ClassVar[int]
    NLL_FIELD_NUMBER: _ClassVar[int]
    NOVEL_NLL_LM_FIELD_NUMBER: _ClassVar[int]
    NOVEL_NLL_FIELD_NUMBER: _ClassVar[int]
    mu: float
    alpha: float
    tau: float
    r: int
    beta: float
    model_fingerprint: str
    positions: int
    novel: int
    nll_lm: float
    nll: float
    novel_nll_lm: float
    novel_nll: float
    def __init__(self, mu: _Optional[float] = ..., alpha: _Optional[float] = ..., tau: _Optional[float] = ..., r: _Optional[int] = ..., beta: _Optional[float] = ..., model_fingerprint: _Optional[str] = ..., positions: _Optional[int] = ..., novel: _Optional[int] = ..., nll_lm: _Optional[float] = ..., nll: _Optional[float] = ..., novel_nll_lm: _Optional[float] = ..., novel_nll: _Optional[float] = ...) -> None: ...

class Document(_message.Message):
    __slots__ = ("document", "version", "title", "uri", "metadata", "media_type", "size_bytes", "sha256", "token_count", "passage_count", "create_time")
    class MetadataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    DOCUMENT_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    URI_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    MEDIA_TYPE_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    TOKEN_COUNT_FIELD_NUMBER: _ClassVar[int]
    PASSAGE_COUNT_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    document: str
    version: int
    title: str
    uri: str
    metadata: _containers.ScalarMap[str, str]
    media_type: str
    size_bytes: int
    sha256: str
    token_count: int
    passage_count: int
    create_time: _timestamp_pb2.Timestamp
    def __init__(self, document: _Optional[str] = ..., version: _Optional[int] = ..., title: _Optional[str] = ..., uri: _Optional[str] = ..., metadata: _Optional[_Mapping[str, str]] = ..., media_type: _Optional[str] = ..., size_bytes: _Optional[int] = ..., sha256: _Optional[str] = ..., token_count: _Optional[int] = ..., passage_count: _Optional[int] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class CreateCorpusRequest(_message.Message):
    __slots__ = ("corpus_id", "model", "encoder", "passage_tokens", "left_context", "labels", "request_id")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    CORPUS_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    ENCODER_FIELD_NUMBER: _ClassVar[int]
    PASSAGE_TOKENS_FIELD_NUMBER: _ClassVar[int]
    LEFT_CONTEXT_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    corpus_id: str
    model: str
    encoder: str
    passage_tokens: int
    left_context: int
    labels: _containers.ScalarMap[str, str]
    request_id: str
    def __init__(self, corpus_id: _Optional[str] = ..., model: _Optional[str] = ..., encoder: _Optional[str] = ..., passage_tokens: _Optional[int] = ..., left_context: _Optional[int] = ..., labels: _Optional[_Mapping[str, str]] = ..., request_id: _Optional[str] = ...) -> None: ...

class GetCorpusRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class ListCorporaRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListCorporaResponse(_message.Message):
    __slots__ = ("corpora", "next_page_token")
    CORPORA_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    corpora: _containers.RepeatedCompositeFieldContainer[Corpus]
    next_page_token: str
    def __init__(self, corpora: _Optional[_Iterable[_Union[Corpus, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class DeleteCorpusRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class DeleteCorpusResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class AddDocumentsRequest(_message.Message):
    __slots__ = ("open", "begin", "chunk", "end")
    class Open(_message.Message):
        __slots__ = ("corpus", "defer_vectors", "defer_build")
        CORPUS_FIELD_NUMBER: _ClassVar[int]
        DEFER_VECTORS_FIELD_NUMBER: _ClassVar[int]
        DEFER_BUILD_FIELD_NUMBER: _ClassVar[int]
        corpus: str
        defer_vectors: bool
        defer_build: bool
        def __init__(self, corpus: _Optional[str] = ..., defer_vectors: bool = ..., defer_build: bool = ...) -> None: ...
    class Begin(_message.Message):
        __slots__ = ("document", "title", "uri", "metadata", "media_type", "size_bytes", "sha256")
        class MetadataEntry(_message.Message):
            __slots__ = ("key", "value")
            KEY_FIELD_NUMBER: _ClassVar[int]
            VALUE_FIELD_NUMBER: _ClassVar[int]
            key: str
            value: str
            def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
        DOCUMENT_FIELD_NUMBER: _ClassVar[int]
        TITLE_FIELD_NUMBER: _ClassVar[int]
        URI_FIELD_NUMBER: _ClassVar[int]
        METADATA_FIELD_NUMBER: _ClassVar[int]
        MEDIA_TYPE_FIELD_NUMBER: _ClassVar[int]
        SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
        SHA256_FIELD_NUMBER: _ClassVar[int]
        document: str
        title: str
        uri: str
        metadata: _containers.ScalarMap[str, str]
        media_type: str
        size_bytes: int
        sha256: str
        def __init__(self, document: _Optional[str] = ..., title: _Optional[str] = ..., uri: _Optional[str] = ..., metadata: _Optional[_Mapping[str, str]] = ..., media_type: _Optional[str] = ..., size_bytes: _Optional[int] = ..., sha256: _Optional[str] = ...) -> None: ...
    class End(_message.Message):
        __slots__ = ()
        def __init__(self) -> None: ...
    OPEN_FIELD_NUMBER: _ClassVar[int]
    BEGIN_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    open: AddDocumentsRequest.Open
    begin: AddDocumentsRequest.Begin
    chunk: bytes
    end: AddDocumentsRequest.End
    def __init__(self, open: _Optional[_Union[AddDocumentsRequest.Open, _Mapping]] = ..., begin: _Optional[_Union[AddDocumentsRequest.Begin, _Mapping]] = ..., chunk: _Optional[bytes] = ..., end: _Optional[_Union[AddDocumentsRequest.End, _Mapping]] = ...) -> None: ...

class AddDocumentsResponse(_message.Message):
    __slots__ = ("document", "version", "epoch", "changed", "token_count", "sha256", "error")
    DOCUMENT_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    CHANGED_FIELD_NUMBER: _ClassVar[int]
    TOKEN_COUNT_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    document: str
    version: int
    epoch: int
    changed: bool
    token_count: int
    sha256: str
    error: _status_pb2.Status
    def __init__(self, document: _Optional[str] = ..., version: _Optional[int] = ..., epoch: _Optional[int] = ..., changed: bool = ..., token_count: _Optional[int] = ..., sha256: _Optional[str] = ..., error: _Optional[_Union[_status_pb2.Status, _Mapping]] = ...) -> None: ...

class GetDocumentRequest(_message.Message):
    __slots__ = ("corpus", "document", "version", "byte_start", "byte_end")
    CORPUS_FIELD_NUMBER: _ClassVar[int]
    DOCUMENT_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    BYTE_START_FIELD_NUMBER: _ClassVar[int]
    BYTE_END_FIELD_NUMBER: _ClassVar[int]
    corpus: str
    document: str
    version: int
    byte_start: int
    byte_end: int
    def __init__(self, corpus: _Optional[str] = ..., document: _Optional[str] = ..., version: _Optional[int] = ..., byte_start: _Optional[int] = ..., byte_end: _Optional[int] = ...) -> None: ...

class GetDocumentResponse(_message.Message):
    __slots__ = ("document", "data")
    DOCUMENT_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    document: Document
    data: bytes
    def __init__(self, document: _Optional[_Union[Document, _Mapping]] = ..., data: _Optional[bytes] = ...) -> None: ...

class StatDocumentRequest(_message.Message):
    __slots__ = ("corpus", "document")
    CORPUS_FIELD_NUMBER: _ClassVar[int]
    DOCUMENT_FIELD_NUMBER: _ClassVar[int]
    corpus: str
    document: str
    def __init__(self, corpus: _Optional[str] = ..., document: _Optional[str] = ...) -> None: ...

class ListDocumentsRequest(_message.Message):
    __slots__ = ("corpus", "page_size", "page_token")
    CORPUS_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    corpus: str
    page_size: int
    page_token: str
    def __init__(self, corpus: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListDocumentsResponse(_message.Message):
    __slots__ = ("documents", "next_page_token")
    DOCUMENTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    documents: _containers.RepeatedCompositeFieldContainer[Document]
    next_page_token: str
    def __init__(self, documents: _Optional[_Iterable[_Union[Document, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class DeleteDocumentsRequest(_message.Message):
    __slots__ = ("corpus", "documents")
    CORPUS_FIELD_NUMBER: _ClassVar[int]
    DOCUMENTS_FIELD_NUMBER: _ClassVar[int]
    corpus: str
    documents: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, corpus: _Optional[str] = ..., documents: _Optional[_Iterable[str]] = ...) -> None: ...

class DeleteReceipt(_message.Message):
    __slots__ = ("corpus", "tombstone_version", "deleted", "missing", "watchers_acknowledged", "watchers_broken", "delete_time")
    CORPUS_FIELD_NUMBER: _ClassVar[int]
    TOMBSTONE_VERSION_FIELD_NUMBER: _ClassVar[int]
    DELETED_FIELD_NUMBER: _ClassVar[int]
    MISSING_FIELD_NUMBER: _ClassVar[int]
    WATCHERS_ACKNOWLEDGED_FIELD_NUMBER: _ClassVar[int]
    WATCHERS_BROKEN_FIELD_NUMBER: _ClassVar[int]
    DELETE_TIME_FIELD_NUMBER: _ClassVar[int]
    corpus: str
    tombstone_version: int
    deleted: _containers.RepeatedCompositeFieldContainer[DocumentVersion]
    missing: _containers.RepeatedScalarFieldContainer[str]
    watchers_acknowledged: int
    watchers_broken: int
    delete_time: _timestamp_pb2.Timestamp
    def __init__(self, corpus: _Optional[str] = ..., tombstone_version: _Optional[int] = ..., deleted: _Optional[_Iterable[_Union[DocumentVersion, _Mapping]]] = ..., missing: _Optional[_Iterable[str]] = ..., watchers_acknowledged: _Optional[int] = ..., watchers_broken: _Optional[int] = ..., delete_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class DocumentVersion(_message.Message):
    __slots__ = ("document", "version")
    DOCUMENT_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    document: str
    version: int
    def __init__(self, document: _Optional[str] = ..., version: _Optional[int] = ...) -> None: ...

class SearchRequest(_message.Message):
    __slots__ = ("corpora", "query", "mode", "limit", "min_epochs")
    class MinEpochsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    CORPORA_FIELD_NUMBER: _ClassVar[int]
    QUERY_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    MIN_EPOCHS_FIELD_NUMBER: _ClassVar[int]
    corpora: _containers.RepeatedScalarFieldContainer[str]
    query: str
    mode: SearchMode
    limit: int
    min_epochs: _containers.ScalarMap[str, int]
    def __init__(self, corpora: _Optional[_Iterable[str]] = ..., query: _Optional[str] = ..., mode: _Optional[_Union[SearchMode, str]] = ..., limit: _Optional[int] = ..., min_epochs: _Optional[_Mapping[str, int]] = ...) -> None: ...

class SearchResponse(_message.Message):
    __slots__ = ("hits", "epochs", "quarantined_segments", "omitted")
    class EpochsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    HITS_FIELD_NUMBER: _ClassVar[int]
    EPOCHS_FIELD_NUMBER: _ClassVar[int]
    QUARANTINED_SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    OMITTED_FIELD_NUMBER: _ClassVar[int]
    hits: _containers.RepeatedCompositeFieldContainer[Hit]
    epochs: _containers.ScalarMap[str, int]
    quarantined_segments: _containers.RepeatedScalarFieldContainer[str]
    omitted: int
    def __init__(self, hits: _Optional[_Iterable[_Union[Hit, _Mapping]]] = ..., epochs: _Optional[_Mapping[str, int]] = ..., quarantined_segments: _Optional[_Iterable[str]] = ..., omitted: _Optional[int] = ...) -> None: ...

class Hit(_message.Message):
    __slots__ = ("score", "dense_score", "sparse_score", "source", "text", "owners", "owner_count")
    SCORE_FIELD_NUMBER: _ClassVar[int]
    DENSE_SCORE_FIELD_NUMBER: _ClassVar[int]
    SPARSE_SCORE_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    OWNERS_FIELD_NUMBER: _ClassVar[int]
    OWNER_COUNT_FIELD_NUMBER: _ClassVar[int]
    score: float
    dense_score: float
    sparse_score: float
    source: Source
    text: bytes
    owners: _containers.RepeatedCompositeFieldContainer[Source]
    owner_count: int
    def __init__(self, score: _Optional[float] = ..., dense_score: _Optional[float] = ..., sparse_score: _Optional[float] = ..., source: _Optional[_Union[Source, _Mapping]] = ..., text: _Optional[bytes] = ..., owners: _Optional[_Iterable[_Union[Source, _Mapping]]] = ..., owner_count: _Optional[int] = ...) -> None: ...

class Source(_message.Message):
    __slots__ = ("corpus", "document", "version", "passage", "title", "uri", "byte_start", "byte_end", "char_start", "token_start", "token_end", "document_sha256")
    CORPUS_FIELD_NUMBER: _ClassVar[int]
    DOCUMENT_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    PASSAGE_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    URI_FIELD_NUMBER: _ClassVar[int]
    BYTE_START_FIELD_NUMBER: _ClassVar[int]
    BYTE_END_FIELD_NUMBER: _ClassVar[int]
    CHAR_START_FIELD_NUMBER: _ClassVar[int]
    TOKEN_START_FIELD_NUMBER: _ClassVar[int]
    TOKEN_END_FIELD_NUMBER: _ClassVar[int]
    DOCUMENT_SHA256_FIELD_NUMBER: _ClassVar[int]
    corpus: str
    document: str
    version: int
    passage: int
    title: str
    uri: str
    byte_start: int
    byte_end: int
    char_start: int
    token_start: int
    token_end: int
    document_sha256: str
    def __init__(self, corpus: _Optional[str] = ..., document: _Optional[str] = ..., version: _Optional[int] = ..., passage: _Optional[int] = ..., title: _Optional[str] = ..., uri: _Optional[str] = ..., byte_start: _Optional[int] = ..., byte_end: _Optional[int] = ..., char_start: _Optional[int] = ..., token_start: _Optional[int] = ..., token_end: _Optional[int] = ..., document_sha256: _Optional[str] = ...) -> None: ...

class ContinueTextRequest(_message.Message):
    __slots__ = ("corpora", "text", "tokens", "shortest", "longest", "length", "limit", "min_epochs")
    class Tokens(_message.Message):
        __slots__ = ("ids",)
        IDS_FIELD_NUMBER: _ClassVar[int]
        ids: _containers.RepeatedScalarFieldContainer[int]
        def __init__(self, ids: _Optional[_Iterable[int]] = ...) -> None: ...
    class MinEpochsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    CORPORA_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    SHORTEST_FIELD_NUMBER: _ClassVar[int]
    LONGEST_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    MIN_EPOCHS_FIELD_NUMBER: _ClassVar[int]
    corpora: _containers.RepeatedScalarFieldContainer[str]
    text: str
    tokens: ContinueTextRequest.Tokens
    shortest: int
    longest: int
    length: int
    limit: int
    min_epochs: _containers.ScalarMap[str, int]
    def __init__(self, corpora: _Optional[_Iterable[str]] = ..., text: _Optional[str] = ..., tokens: _Optional[_Union[ContinueTextRequest.Tokens, _Mapping]] = ..., shortest: _Optional[int] = ..., longest: _Optional[int] = ..., length: _Optional[int] = ..., limit: _Optional[int] = ..., min_epochs: _Optional[_Mapping[str, int]] = ...) -> None: ...

class ContinueTextResponse(_message.Message):
    __slots__ = ("matched_tokens", "occurrence_count", "continuations", "epochs", "quarantined_segments", "omitted")
    class EpochsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    MATCHED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    OCCURRENCE_COUNT_FIELD_NUMBER: _ClassVar[int]
    CONTINUATIONS_FIELD_NUMBER: _ClassVar[int]
    EPOCHS_FIELD_NUMBER: _ClassVar[int]
    QUARANTINED_SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    OMITTED_FIELD_NUMBER: _ClassVar[int]
    matched_tokens: int
    occurrence_count: int
    continuations: _containers.RepeatedCompositeFieldContainer[Continuation]
    epochs: _containers.ScalarMap[str, int]
    quarantined_segments: _containers.RepeatedScalarFieldContainer[str]
    omitted: int
    def __init__(self, matched_tokens: _Optional[int] = ..., occurrence_count: _Optional[int] = ..., continuations: _Optional[_Iterable[_Union[Continuation, _Mapping]]] = ..., epochs: _Optional[_Mapping[str, int]] = ..., quarantined_segments: _Optional[_Iterable[str]] = ..., omitted: _Optional[int] = ...) -> None: ...

class Continuation(_message.Message):
    __slots__ = ("text", "token_ids", "count", "occurrences")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    OCCURRENCES_FIELD_NUMBER: _ClassVar[int]
    text: bytes
    token_ids: _containers.RepeatedScalarFieldContainer[int]
    count: int
    occurrences: _containers.RepeatedCompositeFieldContainer[Occurrence]
    def __init__(self, text: _Optional[bytes] = ..., token_ids: _Optional[_Iterable[int]] = ..., count: _Optional[int] = ..., occurrences: _Optional[_Iterable[_Union[Occurrence, _Mapping]]] = ...) -> None: ...

class Occurrence(_message.Message):
    __slots__ = ("corpus", "document", "version", "title", "uri", "match_byte_start", "match_byte_end", "continuation_byte_end", "continuation_token", "document_sha256")
    CORPUS_FIELD_NUMBER: _ClassVar[int]
    DOCUMENT_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    URI_FIELD_NUMBER: _ClassVar[int]
    MATCH_BYTE_START_FIELD_NUMBER: _ClassVar[int]
    MATCH_BYTE_END_FIELD_NUMBER: _ClassVar[int]
    CONTINUATION_BYTE_END_FIELD_NUMBER: _ClassVar[int]
    CONTINUATION_TOKEN_FIELD_NUMBER: _ClassVar[int]
    DOCUMENT_SHA256_FIELD_NUMBER: _ClassVar[int]
    corpus: str
    document: str
    version: int
    title: str
    uri: str
    match_byte_start: int
    match_byte_end: int
    continuation_byte_end: int
    continuation_token: int
    document_sha256: str
    def __init__(self, corpus: _Optional[str] = ..., document: _Optional[str] = ..., version: _Optional[int] = ..., title: _Optional[str] = ..., uri: _Optional[str] = ..., match_byte_start: _Optional[int] = ..., match_byte_end: _Optional[int] = ..., continuation_byte_end: _Optional[int] = ..., continuation_token: _Optional[int] = ..., document_sha256: _Optional[str] = ...) -> None: ...

class OpenSessionRequest(_message.Message):
    __slots__ = ("corpora", "query", "passages", "mode", "model_fingerprint", "min_epochs", "prompt_tail")
    class MinEpochsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    CORPORA_FIELD_NUMBER: _ClassVar[int]
    QUERY_FIELD_NUMBER: _ClassVar[int]
    PASSAGES_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    MODEL_FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    MIN_EPOCHS_FIELD_NUMBER: _ClassVar[int]
    PROMPT_TAIL_FIELD_NUMBER: _ClassVar[int]
    corpora: _containers.RepeatedScalarFieldContainer[str]
    query: str
    passages: int
    mode: SearchMode
    model_fingerprint: str
    min_epochs: _containers.ScalarMap[str, int]
    prompt_tail: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, corpora: _Optional[_Iterable[str]] = ..., query: _Optional[str] = ..., passages: _Optional[int] = ..., mode: _Optional[_Union[SearchMode, str]] = ..., model_fingerprint: _Optional[str] = ..., min_epochs: _Optional[_Mapping[str, int]] = ..., prompt_tail: _Optional[_Iterable[int]] = ...) -> None: ...

class OpenSessionResponse(_message.Message):
    __slots__ = ("opened", "data")
    class Opened(_message.Message):
        __slots__ = ("size_bytes", "sha256", "epochs", "tombstone_versions", "passages", "passages_with_keys")
        class EpochsEntry(_message.Message):
            __slots__ = ("key", "value")
            KEY_FIELD_NUMBER: _ClassVar[int]
            VALUE_FIELD_NUMBER: _ClassVar[int]
            key: str
            value: int
            def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
        class TombstoneVersionsEntry(_message.Message):
            __slots__ = ("key", "value")
            KEY_FIELD_NUMBER: _ClassVar[int]
            VALUE_FIELD_NUMBER: _ClassVar[int]
            key: str
            value: int
            def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
        SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
        SHA256_FIELD_NUMBER: _ClassVar[int]
        EPOCHS_FIELD_NUMBER: _ClassVar[int]
        TOMBSTONE_VERSIONS_FIELD_NUMBER: _ClassVar[int]
        PASSAGES_FIELD_NUMBER: _ClassVar[int]
        PASSAGES_WITH_KEYS_FIELD_NUMBER: _ClassVar[int]
        size_bytes: int
        sha256: str
        epochs: _containers.ScalarMap[str, int]
        tombstone_versions: _containers.ScalarMap[str, int]
        passages: int
        passages_with_keys: int
        def __init__(self, size_bytes: _Optional[int] = ..., sha256: _Optional[str] = ..., epochs: _Optional[_Mapping[str, int]] = ..., tombstone_versions: _Optional[_Mapping[str, int]] = ..., passages: _Optional[int] = ..., passages_with_keys: _Optional[int] = ...) -> None: ...
    OPENED_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    opened: OpenSessionResponse.Opened
    data: bytes
    def __init__(self, opened: _Optional[_Union[OpenSessionResponse.Opened, _Mapping]] = ..., data: _Optional[bytes] = ...) -> None: ...

class PutKeysRequest(_message.Message):
    __slots__ = ("begin", "block")
    class Begin(_message.Message):
        __slots__ = ("corpus", "model_fingerprint")
        CORPUS_FIELD_NUMBER: _ClassVar[int]
        MODEL_FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
        corpus: str
        model_fingerprint: str
        def __init__(self, corpus: _Optional[str] = ..., model_fingerprint: _Optional[str] = ...) -> None: ...
    class Block(_message.Message):
        __slots__ = ("document", "version", "passage", "keys", "scales", "norms")
        DOCUMENT_FIELD_NUMBER: _ClassVar[int]
        VERSION_FIELD_NUMBER: _ClassVar[int]
        PASSAGE_FIELD_NUMBER: _ClassVar[int]
        KEYS_FIELD_NUMBER: _ClassVar[int]
        SCALES_FIELD_NUMBER: _ClassVar[int]
        NORMS_FIELD_NUMBER: _ClassVar[int]
        document: str
        version: int
        passage: int
        keys: bytes
        scales: bytes
        norms: bytes
        def __init__(self, document: _Optional[str] = ..., version: _Optional[int] = ..., passage: _Optional[int] = ..., keys: _Optional[bytes] = ..., scales: _Optional[bytes] = ..., norms: _Optional[bytes] = ...) -> None: ...
    BEGIN_FIELD_NUMBER: _ClassVar[int]
    BLOCK_FIELD_NUMBER: _ClassVar[int]
    begin: PutKeysRequest.Begin
    block: PutKeysRequest.Block
    def __init__(self, begin: _Optional[_Union[PutKeysRequest.Begin, _Mapping]] = ..., block: _Optional[_Union[PutKeysRequest.Block, _Mapping]] = ...) -> None: ...

class PutKeysResponse(_message.Message):
    __slots__ = ("stored", "skipped")
    STORED_FIELD_NUMBER: _ClassVar[int]
    SKIPPED_FIELD_NUMBER: _ClassVar[int]
    stored: int
    skipped: int
    def __init__(self, stored: _Optional[int] = ..., skipped: _Optional[int] = ...) -> None: ...

class WatchDeletionsRequest(_message.Message):
    __slots__ = ("watch", "acknowledge")
    class Watch(_message.Message):
        __slots__ = ("corpora",)
        CORPORA_FIELD_NUMBER: _ClassVar[int]
        corpora: _containers.RepeatedScalarFieldContainer[str]
        def __init__(self, corpora: _Optional[_Iterable[str]] = ...) -> None: ...
    class Acknowledge(_message.Message):
        __slots__ = ("corpus", "tombstone_version")
        CORPUS_FIELD_NUMBER: _ClassVar[int]
        TOMBSTONE_VERSION_FIELD_NUMBER: _ClassVar[int]
        corpus: str
        tombstone_version: int
        def __init__(self, corpus: _Optional[str] = ..., tombstone_version: _Optional[int] = ...) -> None: ...
    WATCH_FIELD_NUMBER: _ClassVar[int]
    ACKNOWLEDGE_FIELD_NUMBER: _ClassVar[int]
    watch: WatchDeletionsRequest.Watch
    acknowledge: WatchDeletionsRequest.Acknowledge
    def __init__(self, watch: _Optional[_Union[WatchDeletionsRequest.Watch, _Mapping]] = ..., acknowledge: _Optional[_Union[WatchDeletionsRequest.Acknowledge, _Mapping]] = ...) -> None: ...

class WatchDeletionsResponse(_message.Message):
    __slots__ = ("corpus", "tombstone_version", "deleted", "everything")
    CORPUS_FIELD_NUMBER: _ClassVar[int]
    TOMBSTONE_VERSION_FIELD_NUMBER: _ClassVar[int]
    DELETED_FIELD_NUMBER: _ClassVar[int]
    EVERYTHING_FIELD_NUMBER: _ClassVar[int]
    corpus: str
    tombstone_version: int
    deleted: _containers.RepeatedCompositeFieldContainer[DocumentVersion]
    everything: bool
    def __init__(self, corpus: _Optional[str] = ..., tombstone_version: _Optional[int] = ..., deleted: _Optional[_Iterable[_Union[DocumentVersion, _Mapping]]] = ..., everything: bool = ...) -> None: ...

class VerifySpansRequest(_message.Message):
    __slots__ = ("spans",)
    class Span(_message.Message):
        __slots__ = ("corpus", "document", "version", "byte_start", "byte_end", "sha256")
        CORPUS_FIELD_NUMBER: _ClassVar[int]
        DOCUMENT_FIELD_NUMBER: _ClassVar[int]
        VERSION_FIELD_NUMBER: _ClassVar[int]
        BYTE_START_FIELD_NUMBER: _ClassVar[int]
        BYTE_END_FIELD_NUMBER: _ClassVar[int]
        SHA256_FIELD_NUMBER: _ClassVar[int]
        corpus: str
        document: str
        version: int
        byte_start: int
        byte_end: int
        sha256: str
        def __init__(self, corpus: _Optional[str] = ..., document: _Optional[str] = ..., version: _Optional[int] = ..., byte_start: _Optional[int] = ..., byte_end: _Optional[int] = ..., sha256: _Optional[str] = ...) -> None: ...
    SPANS_FIELD_NUMBER: _ClassVar[int]
    spans: _containers.RepeatedCompositeFieldContainer[VerifySpansRequest.Span]
    def __init__(self, spans: _Optional[_Iterable[_Union[VerifySpansRequest.Span, _Mapping]]] = ...) -> None: ...

class VerifySpansResponse(_message.Message):
    __slots__ = ("verdicts",)
    class Verdict(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        VERDICT_UNSPECIFIED: _ClassVar[VerifySpansResponse.Verdict]
        VERDICT_EXACT: _ClassVar[VerifySpansResponse.Verdict]
        VERDICT_GONE: _ClassVar[VerifySpansResponse.Verdict]
        VERDICT_OUT_OF_RANGE: _ClassVar[VerifySpansResponse.Verdict]
        VERDICT_DIFFERENT: _ClassVar[VerifySpansResponse.Verdict]
        VERDICT_DAMAGED: _ClassVar[VerifySpansResponse.Verdict]
    VERDICT_UNSPECIFIED: VerifySpansResponse.Verdict
    VERDICT_EXACT: VerifySpansResponse.Verdict
    VERDICT_GONE: VerifySpansResponse.Verdict
    VERDICT_OUT_OF_RANGE: VerifySpansResponse.Verdict
    VERDICT_DIFFERENT: VerifySpansResponse.Verdict
    VERDICT_DAMAGED: VerifySpansResponse.Verdict
    VERDICTS_FIELD_NUMBER: _ClassVar[int]
    verdicts: _containers.RepeatedScalarFieldContainer[VerifySpansResponse.Verdict]
    def __init__(self, verdicts: _Optional[_Iterable[_Union[VerifySpansResponse.Verdict, str]]] = ...) -> None: ...

class BuildIndexRequest(_message.Message):
    __slots__ = ("corpus", "request_id")
    CORPUS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    corpus: str
    request_id: str
    def __init__(self, corpus: _Optional[str] = ..., request_id: _Optional[str] = ...) -> None: ...

class WarmKeysRequest(_message.Message):
    __slots__ = ("corpus", "request_id")
    CORPUS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    corpus: str
    request_id: str
    def __init__(self, corpus: _Optional[str] = ..., request_id: _Optional[str] = ...) -> None: ...

class WarmKeysResult(_message.Message):
    __slots__ = ("corpus", "computed", "present", "key_bytes")
    CORPUS_FIELD_NUMBER: _ClassVar[int]
    COMPUTED_FIELD_NUMBER: _ClassVar[int]
    PRESENT_FIELD_NUMBER: _ClassVar[int]
    KEY_BYTES_FIELD_NUMBER: _ClassVar[int]
    corpus: str
    computed: int
    present: int
    key_bytes: int
    def __init__(self, corpus: _Optional[str] = ..., computed: _Optional[int] = ..., present: _Optional[int] = ..., key_bytes: _Optional[int] = ...) -> None: ...

class CalibrateRequest(_message.Message):
    __slots__ = ("corpus", "request_id")
    CORPUS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    corpus: str
    request_id: str
    def __init__(self, corpus: _Optional[str] = ..., request_id: _Optional[str] = ...) -> None: ...

class CompactRequest(_message.Message):
    __slots__ = ("corpus", "request_id")
    CORPUS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    corpus: str
    request_id: str
    def __init__(self, corpus: _Optional[str] = ..., request_id: _Optional[str] = ...) -> None: ...

class PurgeRequest(_message.Message):
    __slots__ = ("corpus", "request_id")
    CORPUS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    corpus: str
    request_id: str
    def __init__(self, corpus: _Optional[str] = ..., request_id: _Optional[str] = ...) -> None: ...

class PurgeReceipt(_message.Message):
    __slots__ = ("corpus", "purged", "purged_count", "epoch", "shingles", "scanned_bytes", "unproven", "key_blocks", "finish_time")
    CORPUS_FIELD_NUMBER: _ClassVar[int]
    PURGED_FIELD_NUMBER: _ClassVar[int]
    PURGED_COUNT_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    SHINGLES_FIELD_NUMBER: _ClassVar[int]
    SCANNED_BYTES_FIELD_NUMBER: _ClassVar[int]
    UNPROVEN_FIELD_NUMBER: _ClassVar[int]
    KEY_BLOCKS_FIELD_NUMBER: _ClassVar[int]
    FINISH_TIME_FIELD_NUMBER: _ClassVar[int]
    corpus: str
    purged: _containers.RepeatedCompositeFieldContainer[DocumentVersion]
    purged_count: int
    epoch: int
    shingles: int
    scanned_bytes: int
    unproven: int
    key_blocks: int
    finish_time: _timestamp_pb2.Timestamp
    def __init__(self, corpus: _Optional[str] = ..., purged: _Optional[_Iterable[_Union[DocumentVersion, _Mapping]]] = ..., purged_count: _Optional[int] = ..., epoch: _Optional[int] = ..., shingles: _Optional[int] = ..., scanned_bytes: _Optional[int] = ..., unproven: _Optional[int] = ..., key_blocks: _Optional[int] = ..., finish_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class NgramStore(_message.Message):
    __slots__ = ("name", "artifact", "size_bytes", "tokenizer_fingerprint", "model", "token_count", "document_count", "bytes_per_token", "orders", "corpus", "text_artifact", "corpus_epoch", "create_time", "labels")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    ARTIFACT_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    TOKENIZER_FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    TOKEN_COUNT_FIELD_NUMBER: _ClassVar[int]
    DOCUMENT_COUNT_FIELD_NUMBER: _ClassVar[int]
    BYTES_PER_TOKEN_FIELD_NUMBER: _ClassVar[int]
    ORDERS_FIELD_NUMBER: _ClassVar[int]
    CORPUS_FIELD_NUMBER: _ClassVar[int]
    TEXT_ARTIFACT_FIELD_NUMBER: _ClassVar[int]
    CORPUS_EPOCH_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    name: str
    artifact: str
    size_bytes: int
    tokenizer_fingerprint: str
    model: str
    token_count: int
    document_count: int
    bytes_per_token: float
    orders: _containers.RepeatedScalarFieldContainer[int]
    corpus: str
    text_artifact: str
    corpus_epoch: int
    create_time: _timestamp_pb2.Timestamp
    labels: _containers.ScalarMap[str, str]
    def __init__(self, name: _Optional[str] = ..., artifact: _Optional[str] = ..., size_bytes: _Optional[int] = ..., tokenizer_fingerprint: _Optional[str] = ..., model: _Optional[str] = ..., token_count: _Optional[int] = ..., document_count: _Optional[int] = ..., bytes_per_token: _Optional[float] = ..., orders: _Optional[_Iterable[int]] = ..., corpus: _Optional[str] = ..., text_artifact: _Optional[str] = ..., corpus_epoch: _Optional[int] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., labels: _Optional[_Mapping[str, str]] = ...) -> None: ...

class BuildNgramStoreRequest(_message.Message):
    __slots__ = ("store_id", "corpus", "text_artifact", "model", "labels", "request_id")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    STORE_ID_FIELD_NUMBER: _ClassVar[int]
    CORPUS_FIELD_NUMBER: _ClassVar[int]
    TEXT_ARTIFACT_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    store_id: str
    corpus: str
    text_artifact: str
    model: str
    labels: _containers.ScalarMap[str, str]
    request_id: str
    def __init__(self, store_id: _Optional[str] = ..., corpus: _Optional[str] = ..., text_artifact: _Optional[str] = ..., model: _Optional[str] = ..., labels: _Optional[_Mapping[str, str]] = ..., request_id: _Optional[str] = ...) -> None: ...

class GetNgramStoreRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class ListNgramStoresRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListNgramStoresResponse(_message.Message):
    __slots__ = ("ngram_stores", "next_page_token")
    NGRAM_STORES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    ngram_stores: _containers.RepeatedCompositeFieldContainer[NgramStore]
    next_page_token: str
    def __init__(self, ngram_stores: _Optional[_Iterable[_Union[NgramStore, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class DeleteNgramStoreRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class DeleteNgramStoreResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class InspectNgramsRequest(_message.Message):
    __slots__ = ("name", "text", "tokens", "limit")
    class Tokens(_message.Message):
        __slots__ = ("ids",)
        IDS_FIELD_NUMBER: _ClassVar[int]
        ids: _containers.RepeatedScalarFieldContainer[int]
        def __init__(self, ids: _Optional[_Iterable[int]] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    name: str
    text: str
    tokens: InspectNgramsRequest.Tokens
    limit: int
    def __init__(self, name: _Optional[str] = ..., text: _Optional[str] = ..., tokens: _Optional[_Union[InspectNgramsRequest.Tokens, _Mapping]] = ..., limit: _Optional[int] = ...) -> None: ...

class InspectNgramsResponse(_message.Message):
    __slots__ = ("orders", "token_count", "coverage")
    class Continuation(_message.Message):
        __slots__ = ("token", "count", "text")
        TOKEN_FIELD_NUMBER: _ClassVar[int]
        COUNT_FIELD_NUMBER: _ClassVar[int]
        TEXT_FIELD_NUMBER: _ClassVar[int]
        token: int
        count: int
        text: bytes
        def __init__(self, token: _Optional[int] = ..., count: _Optional[int] = ..., text: _Optional[bytes] = ...) -> None: ...
    class Order(_message.Message):
        __slots__ = ("order", "context", "context_text", "total", "continuations")
        ORDER_FIELD_NUMBER: _ClassVar[int]
        CONTEXT_FIELD_NUMBER: _ClassVar[int]
        CONTEXT_TEXT_FIELD_NUMBER: _ClassVar[int]
        TOTAL_FIELD_NUMBER: _ClassVar[int]
        CONTINUATIONS_FIELD_NUMBER: _ClassVar[int]
        order: int
        context: _containers.RepeatedScalarFieldContainer[int]
        context_text: bytes
        total: int
        continuations: _containers.RepeatedCompositeFieldContainer[InspectNgramsResponse.Continuation]
        def __init__(self, order: _Optional[int] = ..., context: _Optional[_Iterable[int]] = ..., context_text: _Optional[bytes] = ..., total: _Optional[int] = ..., continuations: _Optional[_Iterable[_Union[InspectNgramsResponse.Continuation, _Mapping]]] = ...) -> None: ...
    ORDERS_FIELD_NUMBER: _ClassVar[int]
    TOKEN_COUNT_FIELD_NUMBER: _ClassVar[int]
    COVERAGE_FIELD_NUMBER: _ClassVar[int]
    orders: _containers.RepeatedCompositeFieldContainer[InspectNgramsResponse.Order]
    token_count: int
    coverage: float
    def __init__(self, orders: _Optional[_Iterable[_Union[InspectNgramsResponse.Order, _Mapping]]] = ..., token_count: _Optional[int] = ..., coverage: _Optional[float] = ...) -> None: ...

class EmbedRequest(_message.Message):
    __slots__ = ("encoder", "texts")
    ENCODER_FIELD_NUMBER: _ClassVar[int]
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    encoder: str
    texts: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, encoder: _Optional[str] = ..., texts: _Optional[_Iterable[str]] = ...) -> None: ...

class EmbedResponse(_message.Message):
    __slots__ = ("encoder", "encoder_fingerprint", "dim", "longest", "vectors")
    class Vector(_message.Message):
        __slots__ = ("values", "tokens")
        VALUES_FIELD_NUMBER: _ClassVar[int]
        TOKENS_FIELD_NUMBER: _ClassVar[int]
        values: bytes
        tokens: int
        def __init__(self, values: _Optional[bytes] = ..., tokens: _Optional[int] = ...) -> None: ...
    ENCODER_FIELD_NUMBER: _ClassVar[int]
    ENCODER_FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    DIM_FIELD_NUMBER: _ClassVar[int]
    LONGEST_FIELD_NUMBER: _ClassVar[int]
    VECTORS_FIELD_NUMBER: _ClassVar[int]
    encoder: str
    encoder_fingerprint: str
    dim: int
    longest: int
    vectors: _containers.RepeatedCompositeFieldContainer[EmbedResponse.Vector]
    def __init__(self, encoder: _Optional[str] = ..., encoder_fingerprint: _Optional[str] = ..., dim: _Optional[int] = ..., longest: _Optional[int] = ..., vectors: _Optional[_Iterable[_Union[EmbedResponse.Vector, _Mapping]]] = ...) -> None: ...
