import datetime

from google.longrunning import operations_pb2 as _operations_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from palimpsest.api.options.v1 import options_pb2 as _options_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Context(_message.Message):
    __slots__ = ("name", "model", "model_fingerprint", "token_count", "chunk_tokens", "codec", "profile", "shape", "levels", "chunks", "prefix_digest", "tokens_artifact", "cache_bytes", "stored_bytes", "create_time", "labels", "chunk_count")
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
    TOKEN_COUNT_FIELD_NUMBER: _ClassVar[int]
    CHUNK_TOKENS_FIELD_NUMBER: _ClassVar[int]
    CODEC_FIELD_NUMBER: _ClassVar[int]
    PROFILE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    LEVELS_FIELD_NUMBER: _ClassVar[int]
    CHUNKS_FIELD_NUMBER: _ClassVar[int]
    PREFIX_DIGEST_FIELD_NUMBER: _ClassVar[int]
    TOKENS_ARTIFACT_FIELD_NUMBER: _ClassVar[int]
    CACHE_BYTES_FIELD_NUMBER: _ClassVar[int]
    STORED_BYTES_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    CHUNK_COUNT_FIELD_NUMBER: _ClassVar[int]
    name: str
    model: str
    model_fingerprint: str
    token_count: int
    chunk_tokens: int
    codec: str
    profile: str
    shape: CacheShape
    levels: _containers.RepeatedCompositeFieldContainer[LevelSummary]
    chunks: _containers.RepeatedCompositeFieldContainer[Chunk]
    prefix_digest: str
    tokens_artifact: str
    cache_bytes: int
    stored_bytes: int
    create_time: _timestamp_pb2.Timestamp
    labels: _containers.ScalarMap[str, str]
    chunk_count: int
    def __init__(self, name: _Optional[str] = ..., model: _Optional[str] = ..., model_fingerprint: _Optional[str] = ..., token_count: _Optional[int] = ..., chunk_tokens: _Optional[int] = ..., codec: _Optional[str] = ..., profile: _Optional[str] = ..., shape: _Optional[_Union[CacheShape, _Mapping]] = ..., levels: _Optional[_Iterable[_Union[LevelSummary, _Mapping]]] = ..., chunks: _Optional[_Iterable[_Union[Chunk, _Mapping]]] = ..., prefix_digest: _Optional[str] = ..., tokens_artifact: _Optional[str] = ..., cache_bytes: _Optional[int] = ..., stored_bytes: _Optional[int] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., labels: _Optional[_Mapping[str, str]] = ..., chunk_count: _Optional[int] = ...) -> None: ...

class LevelSummary(_message.Message):
    __slots__ = ("level", "size_bytes", "loss")
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    LOSS_FIELD_NUMBER: _ClassVar[int]
    level: str
    size_bytes: int
    loss: float
    def __init__(self, level: _Optional[str] = ..., size_bytes: _Optional[int] = ..., loss: _Optional[float] = ...) -> None: ...

class Chunk(_message.Message):
    __slots__ = ("start", "tokens", "prefix_digest", "encodings")
    START_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    PREFIX_DIGEST_FIELD_NUMBER: _ClassVar[int]
    ENCODINGS_FIELD_NUMBER: _ClassVar[int]
    start: int
    tokens: int
    prefix_digest: str
    encodings: _containers.RepeatedCompositeFieldContainer[Encoding]
    def __init__(self, start: _Optional[int] = ..., tokens: _Optional[int] = ..., prefix_digest: _Optional[str] = ..., encodings: _Optional[_Iterable[_Union[Encoding, _Mapping]]] = ...) -> None: ...

class Encoding(_message.Message):
    __slots__ = ("level", "artifact", "size_bytes", "loss", "stored_level")
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    ARTIFACT_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    LOSS_FIELD_NUMBER: _ClassVar[int]
    STORED_LEVEL_FIELD_NUMBER: _ClassVar[int]
    level: str
    artifact: str
    size_bytes: int
    loss: float
    stored_level: str
    def __init__(self, level: _Optional[str] = ..., artifact: _Optional[str] = ..., size_bytes: _Optional[int] = ..., loss: _Optional[float] = ..., stored_level: _Optional[str] = ...) -> None: ...

class CacheShape(_message.Message):
    __slots__ = ("layers", "kv_heads", "key_dim", "value_dim", "dtype", "tokens", "start")
    LAYERS_FIELD_NUMBER: _ClassVar[int]
    KV_HEADS_FIELD_NUMBER: _ClassVar[int]
    KEY_DIM_FIELD_NUMBER: _ClassVar[int]
    VALUE_DIM_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    layers: int
    kv_heads: int
    key_dim: int
    value_dim: int
    dtype: str
    tokens: int
    start: int
    def __init__(self, layers: _Optional[int] = ..., kv_heads: _Optional[int] = ..., key_dim: _Optional[int] = ..., value_dim: _Optional[int] = ..., dtype: _Optional[str] = ..., tokens: _Optional[int] = ..., start: _Optional[int] = ...) -> None: ...

class Tokens(_message.Message):
    __slots__ = ("ids",)
    IDS_FIELD_NUMBER: _ClassVar[int]
    ids: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, ids: _Optional[_Iterable[int]] = ...) -> None: ...

class Coding(_message.Message):
    __slots__ = ("codec", "levels", "chunk_tokens")
    CODEC_FIELD_NUMBER: _ClassVar[int]
    LEVELS_FIELD_NUMBER: _ClassVar[int]
    CHUNK_TOKENS_FIELD_NUMBER: _ClassVar[int]
    codec: str
    levels: _containers.RepeatedScalarFieldContainer[str]
    chunk_tokens: int
    def __init__(self, codec: _Optional[str] = ..., levels: _Optional[_Iterable[str]] = ..., chunk_tokens: _Optional[int] = ...) -> None: ...

class CreateContextRequest(_message.Message):
    __slots__ = ("model", "text", "tokens", "text_artifact", "context_id", "coding", "labels", "request_id")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    MODEL_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    TEXT_ARTIFACT_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_ID_FIELD_NUMBER: _ClassVar[int]
    CODING_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    model: str
    text: str
    tokens: Tokens
    text_artifact: str
    context_id: str
    coding: Coding
    labels: _containers.ScalarMap[str, str]
    request_id: str
    def __init__(self, model: _Optional[str] = ..., text: _Optional[str] = ..., tokens: _Optional[_Union[Tokens, _Mapping]] = ..., text_artifact: _Optional[str] = ..., context_id: _Optional[str] = ..., coding: _Optional[_Union[Coding, _Mapping]] = ..., labels: _Optional[_Mapping[str, str]] = ..., request_id: _Optional[str] = ...) -> None: ...

class PutContextRequest(_message.Message):
    __slots__ = ("spec", "data")
    class Spec(_message.Message):
        __slots__ = ("model", "tokens", "shape", "context_id", "coding", "labels")
        class LabelsEntry(_message.Message):
            __slots__ = ("key", "value")
            KEY_FIELD_NUMBER: _ClassVar[int]
            VALUE_FIELD_NUMBER: _ClassVar[int]
            key: str
            value: str
            def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
        MODEL_FIELD_NUMBER: _ClassVar[int]
        TOKENS_FIELD_NUMBER: _ClassVar[int]
        SHAPE_FIELD_NUMBER: _ClassVar[int]
        CONTEXT_ID_FIELD_NUMBER: _ClassVar[int]
        CODING_FIELD_NUMBER: _ClassVar[int]
        LABELS_FIELD_NUMBER: _ClassVar[int]
        model: str
        tokens: Tokens
        shape: CacheShape
        context_id: str
        coding: Coding
        labels: _containers.ScalarMap[str, str]
        def __init__(self, model: _Optional[str] = ..., tokens: _Optional[_Union[Tokens, _Mapping]] = ..., shape: _Optional[_Union[CacheShape, _Mapping]] = ..., context_id: _Optional[str] = ..., coding: _Optional[_Union[Coding, _Mapping]] = ..., labels: _Optional[_Mapping[str, str]] = ...) -> None: ...
    SPEC_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    spec: PutContextRequest.Spec
    data: bytes
    def __init__(self, spec: _Optional[_Union[PutContextRequest.Spec, _Mapping]] = ..., data: _Optional[bytes] = ...) -> None: ...

class GetContextRequest(_message.Message):
    __slots__ = ("name", "first_chunk")
    NAME_FIELD_NUMBER: _ClassVar[int]
    FIRST_CHUNK_FIELD_NUMBER: _ClassVar[int]
    name: str
    first_chunk: int
    def __init__(self, name: _Optional[str] = ..., first_chunk: _Optional[int] = ...) -> None: ...

class ListContextsRequest(_message.Message):
    __slots__ = ("page_size", "page_token", "model")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    model: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., model: _Optional[str] = ...) -> None: ...

class ListContextsResponse(_message.Message):
    __slots__ = ("contexts", "next_page_token")
    CONTEXTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    contexts: _containers.RepeatedCompositeFieldContainer[Context]
    next_page_token: str
    def __init__(self, contexts: _Optional[_Iterable[_Union[Context, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class DeleteContextRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class DeleteContextResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class LookUpContextRequest(_message.Message):
    __slots__ = ("model", "text", "tokens")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    model: str
    text: str
    tokens: Tokens
    def __init__(self, model: _Optional[str] = ..., text: _Optional[str] = ..., tokens: _Optional[_Union[Tokens, _Mapping]] = ...) -> None: ...

class LookUpContextResponse(_message.Message):
    __slots__ = ("name", "matched_tokens", "chunks", "token_count", "levels")
    NAME_FIELD_NUMBER: _ClassVar[int]
    MATCHED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    CHUNKS_FIELD_NUMBER: _ClassVar[int]
    TOKEN_COUNT_FIELD_NUMBER: _ClassVar[int]
    LEVELS_FIELD_NUMBER: _ClassVar[int]
    name: str
    matched_tokens: int
    chunks: int
    token_count: int
    levels: _containers.RepeatedCompositeFieldContainer[LevelSummary]
    def __init__(self, name: _Optional[str] = ..., matched_tokens: _Optional[int] = ..., chunks: _Optional[int] = ..., token_count: _Optional[int] = ..., levels: _Optional[_Iterable[_Union[LevelSummary, _Mapping]]] = ...) -> None: ...

class LoadSettings(_message.Message):
    __slots__ = ("mode", "deadline_seconds", "loss_budget", "levels", "recompute", "decode_tokens_per_second", "tail_seconds", "bandwidth", "sharers")
    class Mode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        MODE_UNSPECIFIED: _ClassVar[LoadSettings.Mode]
        MODE_QUALITY: _ClassVar[LoadSettings.Mode]
        MODE_DELAY: _ClassVar[LoadSettings.Mode]
    MODE_UNSPECIFIED: LoadSettings.Mode
    MODE_QUALITY: LoadSettings.Mode
    MODE_DELAY: LoadSettings.Mode
    MODE_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    LOSS_BUDGET_FIELD_NUMBER: _ClassVar[int]
    LEVELS_FIELD_NUMBER: _ClassVar[int]
    RECOMPUTE_FIELD_NUMBER: _ClassVar[int]
    DECODE_TOKENS_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    TAIL_SECONDS_FIELD_NUMBER: _ClassVar[int]
    BANDWIDTH_FIELD_NUMBER: _ClassVar[int]
    SHARERS_FIELD_NUMBER: _ClassVar[int]
    mode: LoadSettings.Mode
    deadline_seconds: float
    loss_budget: float
    levels: _containers.RepeatedScalarFieldContainer[str]
    recompute: _containers.RepeatedCompositeFieldContainer[RecomputePoint]
    decode_tokens_per_second: float
    tail_seconds: float
    bandwidth: float
    sharers: int
    def __init__(self, mode: _Optional[_Union[LoadSettings.Mode, str]] = ..., deadline_seconds: _Optional[float] = ..., loss_budget: _Optional[float] = ..., levels: _Optional[_Iterable[str]] = ..., recompute: _Optional[_Iterable[_Union[RecomputePoint, _Mapping]]] = ..., decode_tokens_per_second: _Optional[float] = ..., tail_seconds: _Optional[float] = ..., bandwidth: _Optional[float] = ..., sharers: _Optional[int] = ...) -> None: ...

class RecomputePoint(_message.Message):
    __slots__ = ("tokens", "seconds")
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    tokens: int
    seconds: float
    def __init__(self, tokens: _Optional[int] = ..., seconds: _Optional[float] = ...) -> None: ...

class LoadContextRequest(_message.Message):
    __slots__ = ("begin", "receipt", "recomputed", "rejected", "accepted", "recomputing")
    class Begin(_message.Message):
        __slots__ = ("name", "settings", "model_fingerprint", "chunks", "held_chunks", "window_bytes")
        NAME_FIELD_NUMBER: _ClassVar[int]
        SETTINGS_FIELD_NUMBER: _ClassVar[int]
        MODEL_FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
        CHUNKS_FIELD_NUMBER: _ClassVar[int]
        HELD_CHUNKS_FIELD_NUMBER: _ClassVar[int]
        WINDOW_BYTES_FIELD_NUMBER: _ClassVar[int]
        name: str
        settings: LoadSettings
        model_fingerprint: str
        chunks: int
        held_chunks: int
        window_bytes: int
        def __init__(self, name: _Optional[str] = ..., settings: _Optional[_Union[LoadSettings, _Mapping]] = ..., model_fingerprint: _Optional[str] = ..., chunks: _Optional[int] = ..., held_chunks: _Optional[int] = ..., window_bytes: _Optional[int] = ...) -> None: ...
    class Receipt(_message.Message):
        __slots__ = ("received_bytes", "busy_seconds")
        RECEIVED_BYTES_FIELD_NUMBER: _ClassVar[int]
        BUSY_SECONDS_FIELD_NUMBER: _ClassVar[int]
        received_bytes: int
        busy_seconds: float
        def __init__(self, received_bytes: _Optional[int] = ..., busy_seconds: _Optional[float] = ...) -> None: ...
    class Recomputing(_message.Message):
        __slots__ = ("chunk",)
        CHUNK_FIELD_NUMBER: _ClassVar[int]
        chunk: int
        def __init__(self, chunk: _Optional[int] = ...) -> None: ...
    class Recomputed(_message.Message):
        __slots__ = ("chunk", "seconds")
        CHUNK_FIELD_NUMBER: _ClassVar[int]
        SECONDS_FIELD_NUMBER: _ClassVar[int]
        chunk: int
        seconds: float
        def __init__(self, chunk: _Optional[int] = ..., seconds: _Optional[float] = ...) -> None: ...
    class Accepted(_message.Message):
        __slots__ = ("chunk", "seconds")
        CHUNK_FIELD_NUMBER: _ClassVar[int]
        SECONDS_FIELD_NUMBER: _ClassVar[int]
        chunk: int
        seconds: float
        def __init__(self, chunk: _Optional[int] = ..., seconds: _Optional[float] = ...) -> None: ...
    class Rejected(_message.Message):
        __slots__ = ("chunk",)
        CHUNK_FIELD_NUMBER: _ClassVar[int]
        chunk: int
        def __init__(self, chunk: _Optional[int] = ...) -> None: ...
    BEGIN_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    RECOMPUTED_FIELD_NUMBER: _ClassVar[int]
    REJECTED_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    RECOMPUTING_FIELD_NUMBER: _ClassVar[int]
    begin: LoadContextRequest.Begin
    receipt: LoadContextRequest.Receipt
    recomputed: LoadContextRequest.Recomputed
    rejected: LoadContextRequest.Rejected
    accepted: LoadContextRequest.Accepted
    recomputing: LoadContextRequest.Recomputing
    def __init__(self, begin: _Optional[_Union[LoadContextRequest.Begin, _Mapping]] = ..., receipt: _Optional[_Union[LoadContextRequest.Receipt, _Mapping]] = ..., recomputed: _Optional[_Union[LoadContextRequest.Recomputed, _Mapping]] = ..., rejected: _Optional[_Union[LoadContextRequest.Rejected, _Mapping]] = ..., accepted: _Optional[_Union[LoadContextRequest.Accepted, _Mapping]] = ..., recomputing: _Optional[_Union[LoadContextRequest.Recomputing, _Mapping]] = ...) -> None: ...

class LoadContextResponse(_message.Message):
    __slots__ = ("opened", "tokens", "chunk", "data", "recompute", "abandoned", "ended", "more_chunks")
    class Opened(_message.Message):
        __slots__ = ("context", "chunks")
        CONTEXT_FIELD_NUMBER: _ClassVar[int]
        CHUNKS_FIELD_NUMBER: _ClassVar[int]
        context: Context
        chunks: int
        def __init__(self, context: _Optional[_Union[Context, _Mapping]] = ..., chunks: _Optional[int] = ...) -> None: ...
    class MoreChunks(_message.Message):
        __slots__ = ("chunks",)
        CHUNKS_FIELD_NUMBER: _ClassVar[int]
        chunks: _containers.RepeatedCompositeFieldContainer[Chunk]
        def __init__(self, chunks: _Optional[_Iterable[_Union[Chunk, _Mapping]]] = ...) -> None: ...
    class TokenIds(_message.Message):
        __slots__ = ("start", "ids")
        START_FIELD_NUMBER: _ClassVar[int]
        IDS_FIELD_NUMBER: _ClassVar[int]
        start: int
        ids: bytes
        def __init__(self, start: _Optional[int] = ..., ids: _Optional[bytes] = ...) -> None: ...
    class Decision(_message.Message):
        __slots__ = ("chunk", "level", "split", "finish_seconds", "elapsed_seconds", "loss", "bandwidth", "in_time", "over_budget")
        CHUNK_FIELD_NUMBER: _ClassVar[int]
        LEVEL_FIELD_NUMBER: _ClassVar[int]
        SPLIT_FIELD_NUMBER: _ClassVar[int]
        FINISH_SECONDS_FIELD_NUMBER: _ClassVar[int]
        ELAPSED_SECONDS_FIELD_NUMBER: _ClassVar[int]
        LOSS_FIELD_NUMBER: _ClassVar[int]
        BANDWIDTH_FIELD_NUMBER: _ClassVar[int]
        IN_TIME_FIELD_NUMBER: _ClassVar[int]
        OVER_BUDGET_FIELD_NUMBER: _ClassVar[int]
        chunk: int
        level: str
        split: int
        finish_seconds: float
        elapsed_seconds: float
        loss: float
        bandwidth: float
        in_time: bool
        over_budget: bool
        def __init__(self, chunk: _Optional[int] = ..., level: _Optional[str] = ..., split: _Optional[int] = ..., finish_seconds: _Optional[float] = ..., elapsed_seconds: _Optional[float] = ..., loss: _Optional[float] = ..., bandwidth: _Optional[float] = ..., in_time: bool = ..., over_budget: bool = ...) -> None: ...
    class ChunkBegin(_message.Message):
        __slots__ = ("decision", "size_bytes")
        DECISION_FIELD_NUMBER: _ClassVar[int]
        SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
        decision: LoadContextResponse.Decision
        size_bytes: int
        def __init__(self, decision: _Optional[_Union[LoadContextResponse.Decision, _Mapping]] = ..., size_bytes: _Optional[int] = ...) -> None: ...
    class Data(_message.Message):
        __slots__ = ("chunk", "offset", "data")
        CHUNK_FIELD_NUMBER: _ClassVar[int]
        OFFSET_FIELD_NUMBER: _ClassVar[int]
        DATA_FIELD_NUMBER: _ClassVar[int]
        chunk: int
        offset: int
        data: bytes
        def __init__(self, chunk: _Optional[int] = ..., offset: _Optional[int] = ..., data: _Optional[bytes] = ...) -> None: ...
    class Recompute(_message.Message):
        __slots__ = ("decision",)
        DECISION_FIELD_NUMBER: _ClassVar[int]
        decision: LoadContextResponse.Decision
        def __init__(self, decision: _Optional[_Union[LoadContextResponse.Decision, _Mapping]] = ...) -> None: ...
    class Abandoned(_message.Message):
        __slots__ = ("chunk", "reason")
        CHUNK_FIELD_NUMBER: _ClassVar[int]
        REASON_FIELD_NUMBER: _ClassVar[int]
        chunk: int
        reason: str
        def __init__(self, chunk: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...
    class Ended(_message.Message):
        __slots__ = ("sent_bytes", "seconds", "loss", "recomputed_chunks", "over_budget")
        SENT_BYTES_FIELD_NUMBER: _ClassVar[int]
        SECONDS_FIELD_NUMBER: _ClassVar[int]
        LOSS_FIELD_NUMBER: _ClassVar[int]
        RECOMPUTED_CHUNKS_FIELD_NUMBER: _ClassVar[int]
        OVER_BUDGET_FIELD_NUMBER: _ClassVar[int]
        sent_bytes: int
        seconds: float
        loss: float
        recomputed_chunks: int
        over_budget: bool
        def __init__(self, sent_bytes: _Optional[int] = ..., seconds: _Optional[float] = ..., loss: _Optional[float] = ..., recomputed_chunks: _Optional[int] = ..., over_budget: bool = ...) -> None: ...
    OPENED_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    RECOMPUTE_FIELD_NUMBER: _ClassVar[int]
    ABANDONED_FIELD_NUMBER: _ClassVar[int]
    ENDED_FIELD_NUMBER: _ClassVar[int]
    MORE_CHUNKS_FIELD_NUMBER: _ClassVar[int]
    opened: LoadContextResponse.Opened
    tokens: LoadContextResponse.TokenIds
    chunk: LoadContextResponse.ChunkBegin
    data: LoadContextResponse.Data
    recompute: LoadContextResponse.Recompute
    abandoned: LoadContextResponse.Abandoned
    ended: LoadContextResponse.Ended
    more_chunks: LoadContextResponse.MoreChunks
    def __init__(self, opened: _Optional[_Union[LoadContextResponse.Opened, _Mapping]] = ..., tokens: _Optional[_Union[LoadContextResponse.TokenIds, _Mapping]] = ..., chunk: _Optional[_Union[LoadContextResponse.ChunkBegin, _Mapping]] = ..., data: _Optional[_Union[LoadContextResponse.Data, _Mapping]] = ..., recompute: _Optional[_Union[LoadContextResponse.Recompute, _Mapping]] = ..., abandoned: _Optional[_Union[LoadContextResponse.Abandoned, _Mapping]] = ..., ended: _Optional[_Union[LoadContextResponse.Ended, _Mapping]] = ..., more_chunks: _Optional[_Union[LoadContextResponse.MoreChunks, _Mapping]] = ...) -> None: ...

class EstimateRequest(_message.Message):
    __slots__ = ("name", "settings")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SETTINGS_FIELD_NUMBER: _ClassVar[int]
    name: str
    settings: LoadSettings
    def __init__(self, name: _Optional[str] = ..., settings: _Optional[_Union[LoadSettings, _Mapping]] = ...) -> None: ...

class EstimateResponse(_message.Message):
    __slots__ = ("ways", "decisions")
    class Way(_message.Message):
        __slots__ = ("name", "finish_seconds", "loss", "bytes", "in_time", "over_budget")
        NAME_FIELD_NUMBER: _ClassVar[int]
        FINISH_SECONDS_FIELD_NUMBER: _ClassVar[int]
        LOSS_FIELD_NUMBER: _ClassVar[int]
        BYTES_FIELD_NUMBER: _ClassVar[int]
        IN_TIME_FIELD_NUMBER: _ClassVar[int]
        OVER_BUDGET_FIELD_NUMBER: _ClassVar[int]
        name: str
        finish_seconds: float
        loss: float
        bytes: int
        in_time: bool
        over_budget: bool
        def __init__(self, name: _Optional[str] = ..., finish_seconds: _Optional[float] = ..., loss: _Optional[float] = ..., bytes: _Optional[int] = ..., in_time: bool = ..., over_budget: bool = ...) -> None: ...
    WAYS_FIELD_NUMBER: _ClassVar[int]
    DECISIONS_FIELD_NUMBER: _ClassVar[int]
    ways: _containers.RepeatedCompositeFieldContainer[EstimateResponse.Way]
    decisions: _containers.RepeatedCompositeFieldContainer[LoadContextResponse.Decision]
    def __init__(self, ways: _Optional[_Iterable[_Union[EstimateResponse.Way, _Mapping]]] = ..., decisions: _Optional[_Iterable[_Union[LoadContextResponse.Decision, _Mapping]]] = ...) -> None: ...

class EncodeCacheRequest(_message.Message):
    __slots__ = ("spec", "data")
    class Spec(_message.Message):
        __slots__ = ("shape", "model", "coding")
        SHAPE_FIELD_NUMBER: _ClassVar[int]
        MODEL_FIELD_NUMBER: _ClassVar[int]
        CODING_FIELD_NUMBER: _ClassVar[int]
        shape: CacheShape
        model: str
        coding: Coding
        def __init__(self, shape: _Optional[_Union[CacheShape, _Mapping]] = ..., model: _Optional[str] = ..., coding: _Optional[_Union[Coding, _Mapping]] = ...) -> None: ...
    SPEC_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    spec: EncodeCacheRequest.Spec
    data: bytes
    def __init__(self, spec: _Optional[_Union[EncodeCacheRequest.Spec, _Mapping]] = ..., data: _Optional[bytes] = ...) -> None: ...

class EncodeCacheResponse(_message.Message):
    __slots__ = ("level", "offset", "data", "size_bytes", "loss", "stored_level")
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    LOSS_FIELD_NUMBER: _ClassVar[int]
    STORED_LEVEL_FIELD_NUMBER: _ClassVar[int]
    level: str
    offset: int
    data: bytes
    size_bytes: int
    loss: float
    stored_level: str
    def __init__(self, level: _Optional[str] = ..., offset: _Optional[int] = ..., data: _Optional[bytes] = ..., size_bytes: _Optional[int] = ..., loss: _Optional[float] = ..., stored_level: _Optional[str] = ...) -> None: ...

class DecodeCacheRequest(_message.Message):
    __slots__ = ("data",)
    DATA_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    def __init__(self, data: _Optional[bytes] = ...) -> None: ...

class DecodeCacheResponse(_message.Message):
    __slots__ = ("shape", "data")
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    shape: CacheShape
    data: bytes
    def __init__(self, shape: _Optional[_Union[CacheShape, _Mapping]] = ..., data: _Optional[bytes] = ...) -> None: ...

class CalibrateRequest(_message.Message):
    __slots__ = ("model", "texts", "documents", "document_tokens", "group", "request_id", "skip_cache")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    DOCUMENTS_FIELD_NUMBER: _ClassVar[int]
    DOCUMENT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    SKIP_CACHE_FIELD_NUMBER: _ClassVar[int]
    model: str
    texts: str
    documents: int
    document_tokens: int
    group: int
    request_id: str
    skip_cache: bool
    def __init__(self, model: _Optional[str] = ..., texts: _Optional[str] = ..., documents: _Optional[int] = ..., document_tokens: _Optional[int] = ..., group: _Optional[int] = ..., request_id: _Optional[str] = ..., skip_cache: bool = ...) -> None: ...

class GetProfileRequest(_message.Message):
    __slots__ = ("model",)
    MODEL_FIELD_NUMBER: _ClassVar[int]
    model: str
    def __init__(self, model: _Optional[str] = ...) -> None: ...

class Profile(_message.Message):
    __slots__ = ("model", "model_fingerprint", "artifact", "size_bytes", "group", "calibration_tokens", "levels", "create_time", "settings_digest")
    class Level(_message.Message):
        __slots__ = ("level", "loss", "top1", "bits_per_value", "decode_tokens_per_second")
        LEVEL_FIELD_NUMBER: _ClassVar[int]
        LOSS_FIELD_NUMBER: _ClassVar[int]
        TOP1_FIELD_NUMBER: _ClassVar[int]
        BITS_PER_VALUE_FIELD_NUMBER: _ClassVar[int]
        DECODE_TOKENS_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
        level: str
        loss: float
        top1: float
        bits_per_value: float
        decode_tokens_per_second: float
        def __init__(self, level: _Optional[str] = ..., loss: _Optional[float] = ..., top1: _Optional[float] = ..., bits_per_value: _Optional[float] = ..., decode_tokens_per_second: _Optional[float] = ...) -> None: ...
    MODEL_FIELD_NUMBER: _ClassVar[int]
    MODEL_FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    ARTIFACT_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    CALIBRATION_TOKENS_FIELD_NUMBER: _ClassVar[int]
    LEVELS_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    SETTINGS_DIGEST_FIELD_NUMBER: _ClassVar[int]
    model: str
    model_fingerprint: str
    artifact: str
    size_bytes: int
    group: int
    calibration_tokens: int
    levels: _containers.RepeatedCompositeFieldContainer[Profile.Level]
    create_time: _timestamp_pb2.Timestamp
    settings_digest: str
    def __init__(self, model: _Optional[str] = ..., model_fingerprint: _Optional[str] = ..., artifact: _Optional[str] = ..., size_bytes: _Optional[int] = ..., group: _Optional[int] = ..., calibration_tokens: _Optional[int] = ..., levels: _Optional[_Iterable[_Union[Profile.Level, _Mapping]]] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., settings_digest: _Optional[str] = ...) -> None: ...
