from google.longrunning import operations_pb2 as _operations_pb2
from palimpsest.api.artifacts.v1 import artifacts_pb2 as _artifacts_pb2
from palimpsest.api.codec.v1 import codec_pb2 as _codec_pb2
from palimpsest.api.options.v1 import options_pb2 as _options_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class FinishReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FINISH_REASON_UNSPECIFIED: _ClassVar[FinishReason]
    FINISH_REASON_LENGTH: _ClassVar[FinishReason]
    FINISH_REASON_EOS: _ClassVar[FinishReason]
    FINISH_REASON_STOP: _ClassVar[FinishReason]
FINISH_REASON_UNSPECIFIED: FinishReason
FINISH_REASON_LENGTH: FinishReason
FINISH_REASON_EOS: FinishReason
FINISH_REASON_STOP: FinishReason

class ChatMessage(_message.Message):
    __slots__ = ("role", "content")
    ROLE_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    role: str
    content: str
    def __init__(self, role: _Optional[str] = ..., content: _Optional[str] = ...) -> None: ...

class ChatMessages(_message.Message):
    __slots__ = ("messages",)
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    messages: _containers.RepeatedCompositeFieldContainer[ChatMessage]
    def __init__(self, messages: _Optional[_Iterable[_Union[ChatMessage, _Mapping]]] = ...) -> None: ...

class TokenIds(_message.Message):
    __slots__ = ("ids",)
    IDS_FIELD_NUMBER: _ClassVar[int]
    ids: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, ids: _Optional[_Iterable[int]] = ...) -> None: ...

class SamplingConfig(_message.Message):
    __slots__ = ("temperature", "top_k", "top_p", "min_p", "seed", "repetition_penalty", "presence_penalty", "frequency_penalty", "logit_bias")
    class LogitBiasEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: int
        value: float
        def __init__(self, key: _Optional[int] = ..., value: _Optional[float] = ...) -> None: ...
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    TOP_P_FIELD_NUMBER: _ClassVar[int]
    MIN_P_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    REPETITION_PENALTY_FIELD_NUMBER: _ClassVar[int]
    PRESENCE_PENALTY_FIELD_NUMBER: _ClassVar[int]
    FREQUENCY_PENALTY_FIELD_NUMBER: _ClassVar[int]
    LOGIT_BIAS_FIELD_NUMBER: _ClassVar[int]
    temperature: float
    top_k: int
    top_p: float
    min_p: float
    seed: int
    repetition_penalty: float
    presence_penalty: float
    frequency_penalty: float
    logit_bias: _containers.ScalarMap[int, float]
    def __init__(self, temperature: _Optional[float] = ..., top_k: _Optional[int] = ..., top_p: _Optional[float] = ..., min_p: _Optional[float] = ..., seed: _Optional[int] = ..., repetition_penalty: _Optional[float] = ..., presence_penalty: _Optional[float] = ..., frequency_penalty: _Optional[float] = ..., logit_bias: _Optional[_Mapping[int, float]] = ...) -> None: ...

class StructuredOutput(_message.Message):
    __slots__ = ("json_schema", "regex", "grammar", "choice")
    class Choice(_message.Message):
        __slots__ = ("texts",)
        TEXTS_FIELD_NUMBER: _ClassVar[int]
        texts: _containers.RepeatedScalarFieldContainer[str]
        def __init__(self, texts: _Optional[_Iterable[str]] = ...) -> None: ...
    JSON_SCHEMA_FIELD_NUMBER: _ClassVar[int]
    REGEX_FIELD_NUMBER: _ClassVar[int]
    GRAMMAR_FIELD_NUMBER: _ClassVar[int]
    CHOICE_FIELD_NUMBER: _ClassVar[int]
    json_schema: str
    regex: str
    grammar: str
    choice: StructuredOutput.Choice
    def __init__(self, json_schema: _Optional[str] = ..., regex: _Optional[str] = ..., grammar: _Optional[str] = ..., choice: _Optional[_Union[StructuredOutput.Choice, _Mapping]] = ...) -> None: ...

class GenerateRequest(_message.Message):
    __slots__ = ("model", "prompt", "chat", "tokens", "sampling", "n", "max_tokens", "stop", "logprobs", "ignore_eos", "context", "context_load", "nest", "cache_salt", "min_tokens", "stop_token_ids", "bad_words", "structured")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    CHAT_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    SAMPLING_FIELD_NUMBER: _ClassVar[int]
    N_FIELD_NUMBER: _ClassVar[int]
    MAX_TOKENS_FIELD_NUMBER: _ClassVar[int]
    STOP_FIELD_NUMBER: _ClassVar[int]
    LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    IGNORE_EOS_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_LOAD_FIELD_NUMBER: _ClassVar[int]
    NEST_FIELD_NUMBER: _ClassVar[int]
    CACHE_SALT_FIELD_NUMBER: _ClassVar[int]
    MIN_TOKENS_FIELD_NUMBER: _ClassVar[int]
    STOP_TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    BAD_WORDS_FIELD_NUMBER: _ClassVar[int]
    STRUCTURED_FIELD_NUMBER: _ClassVar[int]
    model: str
    prompt: str
    chat: ChatMessages
    tokens: TokenIds
    sampling: SamplingConfig
    n: int
    max_tokens: int
    stop: _containers.RepeatedScalarFieldContainer[str]
    logprobs: int
    ignore_eos: bool
    context: str
    context_load: _codec_pb2.LoadSettings
    nest: NestSettings
    cache_salt: str
    min_tokens: int
    stop_token_ids: _containers.RepeatedScalarFieldContainer[int]
    bad_words: _containers.RepeatedScalarFieldContainer[str]
    structured: StructuredOutput
    def __init__(self, model: _Optional[str] = ..., prompt: _Optional[str] = ..., chat: _Optional[_Union[ChatMessages, _Mapping]] = ..., tokens: _Optional[_Union[TokenIds, _Mapping]] = ..., sampling: _Optional[_Union[SamplingConfig, _Mapping]] = ..., n: _Optional[int] = ..., max_tokens: _Optional[int] = ..., stop: _Optional[_Iterable[str]] = ..., logprobs: _Optional[int] = ..., ignore_eos: bool = ..., context: _Optional[str] = ..., context_load: _Optional[_Union[_codec_pb2.LoadSettings, _Mapping]] = ..., nest: _Optional[_Union[NestSettings, _Mapping]] = ..., cache_salt: _Optional[str] = ..., min_tokens: _Optional[int] = ..., stop_token_ids: _Optional[_Iterable[int]] = ..., bad_words: _Optional[_Iterable[str]] = ..., structured: _Optional[_Union[StructuredOutput, _Mapping]] = ...) -> None: ...

class DraftRequest(_message.Message):
    __slots__ = ("model", "prompt", "chat", "tokens", "k", "max_tokens", "stop", "ignore_eos", "sampling", "settings", "nest", "cache_salt")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    CHAT_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    K_FIELD_NUMBER: _ClassVar[int]
    MAX_TOKENS_FIELD_NUMBER: _ClassVar[int]
    STOP_FIELD_NUMBER: _ClassVar[int]
    IGNORE_EOS_FIELD_NUMBER: _ClassVar[int]
    SAMPLING_FIELD_NUMBER: _ClassVar[int]
    SETTINGS_FIELD_NUMBER: _ClassVar[int]
    NEST_FIELD_NUMBER: _ClassVar[int]
    CACHE_SALT_FIELD_NUMBER: _ClassVar[int]
    model: str
    prompt: str
    chat: ChatMessages
    tokens: TokenIds
    k: int
    max_tokens: int
    stop: _containers.RepeatedScalarFieldContainer[str]
    ignore_eos: bool
    sampling: SamplingConfig
    settings: DraftSettings
    nest: NestSettings
    cache_salt: str
    def __init__(self, model: _Optional[str] = ..., prompt: _Optional[str] = ..., chat: _Optional[_Union[ChatMessages, _Mapping]] = ..., tokens: _Optional[_Union[TokenIds, _Mapping]] = ..., k: _Optional[int] = ..., max_tokens: _Optional[int] = ..., stop: _Optional[_Iterable[str]] = ..., ignore_eos: bool = ..., sampling: _Optional[_Union[SamplingConfig, _Mapping]] = ..., settings: _Optional[_Union[DraftSettings, _Mapping]] = ..., nest: _Optional[_Union[NestSettings, _Mapping]] = ..., cache_salt: _Optional[str] = ...) -> None: ...

class DraftSettings(_message.Message):
    __slots__ = ("strategy", "ngrams", "alpha", "temperature", "min_coverage", "over_generate", "reset_every", "diversity", "exact", "heal", "stop_at", "streaming")
    class Strategy(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STRATEGY_UNSPECIFIED: _ClassVar[DraftSettings.Strategy]
        STRATEGY_AUTO: _ClassVar[DraftSettings.Strategy]
        STRATEGY_SUPERPOSED: _ClassVar[DraftSettings.Strategy]
        STRATEGY_SUPERPOSED_VERIFIED: _ClassVar[DraftSettings.Strategy]
        STRATEGY_BEAM: _ClassVar[DraftSettings.Strategy]
        STRATEGY_DIVERSE_BEAM: _ClassVar[DraftSettings.Strategy]
        STRATEGY_NUCLEUS: _ClassVar[DraftSettings.Strategy]
    STRATEGY_UNSPECIFIED: DraftSettings.Strategy
    STRATEGY_AUTO: DraftSettings.Strategy
    STRATEGY_SUPERPOSED: DraftSettings.Strategy
    STRATEGY_SUPERPOSED_VERIFIED: DraftSettings.Strategy
    STRATEGY_BEAM: DraftSettings.Strategy
    STRATEGY_DIVERSE_BEAM: DraftSettings.Strategy
    STRATEGY_NUCLEUS: DraftSettings.Strategy
    class StopAt(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STOP_AT_UNSPECIFIED: _ClassVar[DraftSettings.StopAt]
        STOP_AT_WORD: _ClassVar[DraftSettings.StopAt]
        STOP_AT_SENTENCE: _ClassVar[DraftSettings.StopAt]
        STOP_AT_LINE: _ClassVar[DraftSettings.StopAt]
    STOP_AT_UNSPECIFIED: DraftSettings.StopAt
    STOP_AT_WORD: DraftSettings.StopAt
    STOP_AT_SENTENCE: DraftSettings.StopAt
    STOP_AT_LINE: DraftSettings.StopAt
    class Streaming(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STREAMING_UNSPECIFIED: _ClassVar[DraftSettings.Streaming]
        STREAMING_COMMITTED_ONLY: _ClassVar[DraftSettings.Streaming]
        STREAMING_WITH_REWRITES: _ClassVar[DraftSettings.Streaming]
        STREAMING_FINAL_ONLY: _ClassVar[DraftSettings.Streaming]
    STREAMING_UNSPECIFIED: DraftSettings.Streaming
    STREAMING_COMMITTED_ONLY: DraftSettings.Streaming
    STREAMING_WITH_REWRITES: DraftSettings.Streaming
    STREAMING_FINAL_ONLY: DraftSettings.Streaming
    STRATEGY_FIELD_NUMBER: _ClassVar[int]
    NGRAMS_FIELD_NUMBER: _ClassVar[int]
    ALPHA_FIELD_NUMBER: _ClassVar[int]
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    MIN_COVERAGE_FIELD_NUMBER: _ClassVar[int]
    OVER_GENERATE_FIELD_NUMBER: _ClassVar[int]
    RESET_EVERY_FIELD_NUMBER: _ClassVar[int]
    DIVERSITY_FIELD_NUMBER: _ClassVar[int]
    EXACT_FIELD_NUMBER: _ClassVar[int]
    HEAL_FIELD_NUMBER: _ClassVar[int]
    STOP_AT_FIELD_NUMBER: _ClassVar[int]
    STREAMING_FIELD_NUMBER: _ClassVar[int]
    strategy: DraftSettings.Strategy
    ngrams: str
    alpha: float
    temperature: float
    min_coverage: float
    over_generate: int
    reset_every: int
    diversity: float
    exact: bool
    heal: bool
    stop_at: DraftSettings.StopAt
    streaming: DraftSettings.Streaming
    def __init__(self, strategy: _Optional[_Union[DraftSettings.Strategy, str]] = ..., ngrams: _Optional[str] = ..., alpha: _Optional[float] = ..., temperature: _Optional[float] = ..., min_coverage: _Optional[float] = ..., over_generate: _Optional[int] = ..., reset_every: _Optional[int] = ..., diversity: _Optional[float] = ..., exact: bool = ..., heal: bool = ..., stop_at: _Optional[_Union[DraftSettings.StopAt, str]] = ..., streaming: _Optional[_Union[DraftSettings.Streaming, str]] = ...) -> None: ...

class NestSettings(_message.Message):
    __slots__ = ("corpora", "mode", "query", "passages", "neighbors", "mu", "alpha", "tau", "beta", "delta", "gamma", "lm_weight", "max_draft", "ignore_calibration", "token_matches", "on_datastore_loss")
    class Mode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        MODE_UNSPECIFIED: _ClassVar[NestSettings.Mode]
        MODE_LM: _ClassVar[NestSettings.Mode]
        MODE_KNN_LM: _ClassVar[NestSettings.Mode]
        MODE_NEST: _ClassVar[NestSettings.Mode]
        MODE_NEST_STRICT: _ClassVar[NestSettings.Mode]
        MODE_LOSSLESS: _ClassVar[NestSettings.Mode]
    MODE_UNSPECIFIED: NestSettings.Mode
    MODE_LM: NestSettings.Mode
    MODE_KNN_LM: NestSettings.Mode
    MODE_NEST: NestSettings.Mode
    MODE_NEST_STRICT: NestSettings.Mode
    MODE_LOSSLESS: NestSettings.Mode
    class DatastoreLoss(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        DATASTORE_LOSS_UNSPECIFIED: _ClassVar[NestSettings.DatastoreLoss]
        DATASTORE_LOSS_FAIL: _ClassVar[NestSettings.DatastoreLoss]
        DATASTORE_LOSS_DEGRADE: _ClassVar[NestSettings.DatastoreLoss]
    DATASTORE_LOSS_UNSPECIFIED: NestSettings.DatastoreLoss
    DATASTORE_LOSS_FAIL: NestSettings.DatastoreLoss
    DATASTORE_LOSS_DEGRADE: NestSettings.DatastoreLoss
    CORPORA_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    QUERY_FIELD_NUMBER: _ClassVar[int]
    PASSAGES_FIELD_NUMBER: _ClassVar[int]
    NEIGHBORS_FIELD_NUMBER: _ClassVar[int]
    MU_FIELD_NUMBER: _ClassVar[int]
    ALPHA_FIELD_NUMBER: _ClassVar[int]
    TAU_FIELD_NUMBER: _ClassVar[int]
    BETA_FIELD_NUMBER: _ClassVar[int]
    DELTA_FIELD_NUMBER: _ClassVar[int]
    GAMMA_FIELD_NUMBER: _ClassVar[int]
    LM_WEIGHT_FIELD_NUMBER: _ClassVar[int]
    MAX_DRAFT_FIELD_NUMBER: _ClassVar[int]
    IGNORE_CALIBRATION_FIELD_NUMBER: _ClassVar[int]
    TOKEN_MATCHES_FIELD_NUMBER: _ClassVar[int]
    ON_DATASTORE_LOSS_FIELD_NUMBER: _ClassVar[int]
    corpora: _containers.RepeatedScalarFieldContainer[str]
    mode: NestSettings.Mode
    query: str
    passages: int
    neighbors: int
    mu: float
    alpha: float
    tau: float
    beta: float
    delta: float
    gamma: float
    lm_weight: float
    max_draft: int
    ignore_calibration: bool
    token_matches: bool
    on_datastore_loss: NestSettings.DatastoreLoss
    def __init__(self, corpora: _Optional[_Iterable[str]] = ..., mode: _Optional[_Union[NestSettings.Mode, str]] = ..., query: _Optional[str] = ..., passages: _Optional[int] = ..., neighbors: _Optional[int] = ..., mu: _Optional[float] = ..., alpha: _Optional[float] = ..., tau: _Optional[float] = ..., beta: _Optional[float] = ..., delta: _Optional[float] = ..., gamma: _Optional[float] = ..., lm_weight: _Optional[float] = ..., max_draft: _Optional[int] = ..., ignore_calibration: bool = ..., token_matches: bool = ..., on_datastore_loss: _Optional[_Union[NestSettings.DatastoreLoss, str]] = ...) -> None: ...

class TokenLogprob(_message.Message):
    __slots__ = ("id", "bytes", "logprob", "top")
    ID_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    LOGPROB_FIELD_NUMBER: _ClassVar[int]
    TOP_FIELD_NUMBER: _ClassVar[int]
    id: int
    bytes: bytes
    logprob: float
    top: _containers.RepeatedCompositeFieldContainer[TokenLogprob]
    def __init__(self, id: _Optional[int] = ..., bytes: _Optional[bytes] = ..., logprob: _Optional[float] = ..., top: _Optional[_Iterable[_Union[TokenLogprob, _Mapping]]] = ...) -> None: ...

class GenerateStarted(_message.Message):
    __slots__ = ("seed", "prompt_tokens", "cached_tokens", "model_fingerprint")
    SEED_FIELD_NUMBER: _ClassVar[int]
    PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    CACHED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    MODEL_FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    seed: int
    prompt_tokens: int
    cached_tokens: int
    model_fingerprint: str
    def __init__(self, seed: _Optional[int] = ..., prompt_tokens: _Optional[int] = ..., cached_tokens: _Optional[int] = ..., model_fingerprint: _Optional[str] = ...) -> None: ...

class ContextLoaded(_message.Message):
    __slots__ = ("chunks", "received_bytes", "seconds", "loss")
    class Chunk(_message.Message):
        __slots__ = ("tokens", "level", "bytes")
        TOKENS_FIELD_NUMBER: _ClassVar[int]
        LEVEL_FIELD_NUMBER: _ClassVar[int]
        BYTES_FIELD_NUMBER: _ClassVar[int]
        tokens: int
        level: str
        bytes: int
        def __init__(self, tokens: _Optional[int] = ..., level: _Optional[str] = ..., bytes: _Optional[int] = ...) -> None: ...
    CHUNKS_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_BYTES_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    LOSS_FIELD_NUMBER: _ClassVar[int]
    chunks: _containers.RepeatedCompositeFieldContainer[ContextLoaded.Chunk]
    received_bytes: int
    seconds: float
    loss: float
    def __init__(self, chunks: _Optional[_Iterable[_Union[ContextLoaded.Chunk, _Mapping]]] = ..., received_bytes: _Optional[int] = ..., seconds: _Optional[float] = ..., loss: _Optional[float] = ...) -> None: ...

class GenerateDelta(_message.Message):
    __slots__ = ("index", "text", "token_ids", "logprobs")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    index: int
    text: str
    token_ids: _containers.RepeatedScalarFieldContainer[int]
    logprobs: _containers.RepeatedCompositeFieldContainer[TokenLogprob]
    def __init__(self, index: _Optional[int] = ..., text: _Optional[str] = ..., token_ids: _Optional[_Iterable[int]] = ..., logprobs: _Optional[_Iterable[_Union[TokenLogprob, _Mapping]]] = ...) -> None: ...

class TextRange(_message.Message):
    __slots__ = ("byte_start", "byte_end", "char_start", "char_end")
    BYTE_START_FIELD_NUMBER: _ClassVar[int]
    BYTE_END_FIELD_NUMBER: _ClassVar[int]
    CHAR_START_FIELD_NUMBER: _ClassVar[int]
    CHAR_END_FIELD_NUMBER: _ClassVar[int]
    byte_start: int
    byte_end: int
    char_start: int
    char_end: int
    def __init__(self, byte_start: _Optional[int] = ..., byte_end: _Optional[int] = ..., char_start: _Optional[int] = ..., char_end: _Optional[int] = ...) -> None: ...

class QuoteSource(_message.Message):
    __slots__ = ("corpus", "document", "version", "passage", "token_start", "token_end", "range", "title", "uri", "document_sha256", "passage_score", "prefix", "suffix")
    CORPUS_FIELD_NUMBER: _ClassVar[int]
    DOCUMENT_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    PASSAGE_FIELD_NUMBER: _ClassVar[int]
    TOKEN_START_FIELD_NUMBER: _ClassVar[int]
    TOKEN_END_FIELD_NUMBER: _ClassVar[int]
    RANGE_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    URI_FIELD_NUMBER: _ClassVar[int]
    DOCUMENT_SHA256_FIELD_NUMBER: _ClassVar[int]
    PASSAGE_SCORE_FIELD_NUMBER: _ClassVar[int]
    PREFIX_FIELD_NUMBER: _ClassVar[int]
    SUFFIX_FIELD_NUMBER: _ClassVar[int]
    corpus: str
    document: str
    version: int
    passage: int
    token_start: int
    token_end: int
    range: TextRange
    title: str
    uri: str
    document_sha256: str
    passage_score: float
    prefix: str
    suffix: str
    def __init__(self, corpus: _Optional[str] = ..., document: _Optional[str] = ..., version: _Optional[int] = ..., passage: _Optional[int] = ..., token_start: _Optional[int] = ..., token_end: _Optional[int] = ..., range: _Optional[_Union[TextRange, _Mapping]] = ..., title: _Optional[str] = ..., uri: _Optional[str] = ..., document_sha256: _Optional[str] = ..., passage_score: _Optional[float] = ..., prefix: _Optional[str] = ..., suffix: _Optional[str] = ...) -> None: ...

class QuotedSpan(_message.Message):
    __slots__ = ("index", "span_id", "kind", "range", "token_start", "token_end", "sources", "sha256", "lm_weight", "ratio", "proposed_tokens", "accepted_tokens", "weak")
    class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        KIND_UNSPECIFIED: _ClassVar[QuotedSpan.Kind]
        KIND_SPAN: _ClassVar[QuotedSpan.Kind]
        KIND_TOKEN_MATCH: _ClassVar[QuotedSpan.Kind]
    KIND_UNSPECIFIED: QuotedSpan.Kind
    KIND_SPAN: QuotedSpan.Kind
    KIND_TOKEN_MATCH: QuotedSpan.Kind
    INDEX_FIELD_NUMBER: _ClassVar[int]
    SPAN_ID_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    RANGE_FIELD_NUMBER: _ClassVar[int]
    TOKEN_START_FIELD_NUMBER: _ClassVar[int]
    TOKEN_END_FIELD_NUMBER: _ClassVar[int]
    SOURCES_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    LM_WEIGHT_FIELD_NUMBER: _ClassVar[int]
    RATIO_FIELD_NUMBER: _ClassVar[int]
    PROPOSED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    WEAK_FIELD_NUMBER: _ClassVar[int]
    index: int
    span_id: int
    kind: QuotedSpan.Kind
    range: TextRange
    token_start: int
    token_end: int
    sources: _containers.RepeatedCompositeFieldContainer[QuoteSource]
    sha256: str
    lm_weight: float
    ratio: float
    proposed_tokens: int
    accepted_tokens: int
    weak: bool
    def __init__(self, index: _Optional[int] = ..., span_id: _Optional[int] = ..., kind: _Optional[_Union[QuotedSpan.Kind, str]] = ..., range: _Optional[_Union[TextRange, _Mapping]] = ..., token_start: _Optional[int] = ..., token_end: _Optional[int] = ..., sources: _Optional[_Iterable[_Union[QuoteSource, _Mapping]]] = ..., sha256: _Optional[str] = ..., lm_weight: _Optional[float] = ..., ratio: _Optional[float] = ..., proposed_tokens: _Optional[int] = ..., accepted_tokens: _Optional[int] = ..., weak: bool = ...) -> None: ...

class SpanRevoked(_message.Message):
    __slots__ = ("index", "span_id", "byte_start", "byte_end")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    SPAN_ID_FIELD_NUMBER: _ClassVar[int]
    BYTE_START_FIELD_NUMBER: _ClassVar[int]
    BYTE_END_FIELD_NUMBER: _ClassVar[int]
    index: int
    span_id: int
    byte_start: int
    byte_end: int
    def __init__(self, index: _Optional[int] = ..., span_id: _Optional[int] = ..., byte_start: _Optional[int] = ..., byte_end: _Optional[int] = ...) -> None: ...

class NestStatistics(_message.Message):
    __slots__ = ("lm_forwards", "lm_positions", "spans_proposed", "spans_accepted", "proposed_tokens", "accepted_tokens", "searches", "span_token_ratio", "match_token_ratio", "documents", "dropped_spans", "revoked_spans", "keys_computed", "keys_stored", "retrieval_seconds", "keys_seconds", "forward_seconds", "mixing_seconds", "degraded")
    LM_FORWARDS_FIELD_NUMBER: _ClassVar[int]
    LM_POSITIONS_FIELD_NUMBER: _ClassVar[int]
    SPANS_PROPOSED_FIELD_NUMBER: _ClassVar[int]
    SPANS_ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    PROPOSED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    SEARCHES_FIELD_NUMBER: _ClassVar[int]
    SPAN_TOKEN_RATIO_FIELD_NUMBER: _ClassVar[int]
    MATCH_TOKEN_RATIO_FIELD_NUMBER: _ClassVar[int]
    DOCUMENTS_FIELD_NUMBER: _ClassVar[int]
    DROPPED_SPANS_FIELD_NUMBER: _ClassVar[int]
    REVOKED_SPANS_FIELD_NUMBER: _ClassVar[int]
    KEYS_COMPUTED_FIELD_NUMBER: _ClassVar[int]
    KEYS_STORED_FIELD_NUMBER: _ClassVar[int]
    RETRIEVAL_SECONDS_FIELD_NUMBER: _ClassVar[int]
    KEYS_SECONDS_FIELD_NUMBER: _ClassVar[int]
    FORWARD_SECONDS_FIELD_NUMBER: _ClassVar[int]
    MIXING_SECONDS_FIELD_NUMBER: _ClassVar[int]
    DEGRADED_FIELD_NUMBER: _ClassVar[int]
    lm_forwards: int
    lm_positions: int
    spans_proposed: int
    spans_accepted: int
    proposed_tokens: int
    accepted_tokens: int
    searches: int
    span_token_ratio: float
    match_token_ratio: float
    documents: int
    dropped_spans: int
    revoked_spans: int
    keys_computed: int
    keys_stored: int
    retrieval_seconds: float
    keys_seconds: float
    forward_seconds: float
    mixing_seconds: float
    degraded: bool
    def __init__(self, lm_forwards: _Optional[int] = ..., lm_positions: _Optional[int] = ..., spans_proposed: _Optional[int] = ..., spans_accepted: _Optional[int] = ..., proposed_tokens: _Optional[int] = ..., accepted_tokens: _Optional[int] = ..., searches: _Optional[int] = ..., span_token_ratio: _Optional[float] = ..., match_token_ratio: _Optional[float] = ..., documents: _Optional[int] = ..., dropped_spans: _Optional[int] = ..., revoked_spans: _Optional[int] = ..., keys_computed: _Optional[int] = ..., keys_stored: _Optional[int] = ..., retrieval_seconds: _Optional[float] = ..., keys_seconds: _Optional[float] = ..., forward_seconds: _Optional[float] = ..., mixing_seconds: _Optional[float] = ..., degraded: bool = ...) -> None: ...

class SequenceFinished(_message.Message):
    __slots__ = ("index", "reason", "stop", "generated_tokens", "text", "logprob", "nest")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    STOP_FIELD_NUMBER: _ClassVar[int]
    GENERATED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    LOGPROB_FIELD_NUMBER: _ClassVar[int]
    NEST_FIELD_NUMBER: _ClassVar[int]
    index: int
    reason: FinishReason
    stop: str
    generated_tokens: int
    text: str
    logprob: float
    nest: NestStatistics
    def __init__(self, index: _Optional[int] = ..., reason: _Optional[_Union[FinishReason, str]] = ..., stop: _Optional[str] = ..., generated_tokens: _Optional[int] = ..., text: _Optional[str] = ..., logprob: _Optional[float] = ..., nest: _Optional[_Union[NestStatistics, _Mapping]] = ...) -> None: ...

class DraftsPlanned(_message.Message):
    __slots__ = ("strategy", "costs", "alpha", "temperature", "coverage", "store", "healed")
    class Cost(_message.Message):
        __slots__ = ("strategy", "seconds")
        STRATEGY_FIELD_NUMBER: _ClassVar[int]
        SECONDS_FIELD_NUMBER: _ClassVar[int]
        strategy: DraftSettings.Strategy
        seconds: float
        def __init__(self, strategy: _Optional[_Union[DraftSettings.Strategy, str]] = ..., seconds: _Optional[float] = ...) -> None: ...
    STRATEGY_FIELD_NUMBER: _ClassVar[int]
    COSTS_FIELD_NUMBER: _ClassVar[int]
    ALPHA_FIELD_NUMBER: _ClassVar[int]
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    COVERAGE_FIELD_NUMBER: _ClassVar[int]
    STORE_FIELD_NUMBER: _ClassVar[int]
    HEALED_FIELD_NUMBER: _ClassVar[int]
    strategy: DraftSettings.Strategy
    costs: _containers.RepeatedCompositeFieldContainer[DraftsPlanned.Cost]
    alpha: float
    temperature: float
    coverage: float
    store: str
    healed: bytes
    def __init__(self, strategy: _Optional[_Union[DraftSettings.Strategy, str]] = ..., costs: _Optional[_Iterable[_Union[DraftsPlanned.Cost, _Mapping]]] = ..., alpha: _Optional[float] = ..., temperature: _Optional[float] = ..., coverage: _Optional[float] = ..., store: _Optional[str] = ..., healed: _Optional[bytes] = ...) -> None: ...

class DraftDelta(_message.Message):
    __slots__ = ("draft", "keep_tokens", "keep_chars", "text", "token_ids")
    DRAFT_FIELD_NUMBER: _ClassVar[int]
    KEEP_TOKENS_FIELD_NUMBER: _ClassVar[int]
    KEEP_CHARS_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    draft: int
    keep_tokens: int
    keep_chars: int
    text: str
    token_ids: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, draft: _Optional[int] = ..., keep_tokens: _Optional[int] = ..., keep_chars: _Optional[int] = ..., text: _Optional[str] = ..., token_ids: _Optional[_Iterable[int]] = ...) -> None: ...

class DraftFinished(_message.Message):
    __slots__ = ("draft", "rank", "text", "token_ids", "reason", "stop", "logprob", "token_logprobs", "score", "ngram_share", "sources")
    DRAFT_FIELD_NUMBER: _ClassVar[int]
    RANK_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    STOP_FIELD_NUMBER: _ClassVar[int]
    LOGPROB_FIELD_NUMBER: _ClassVar[int]
    TOKEN_LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    NGRAM_SHARE_FIELD_NUMBER: _ClassVar[int]
    SOURCES_FIELD_NUMBER: _ClassVar[int]
    draft: int
    rank: int
    text: str
    token_ids: _containers.RepeatedScalarFieldContainer[int]
    reason: FinishReason
    stop: str
    logprob: float
    token_logprobs: _containers.RepeatedScalarFieldContainer[float]
    score: float
    ngram_share: float
    sources: _containers.RepeatedCompositeFieldContainer[QuoteSource]
    def __init__(self, draft: _Optional[int] = ..., rank: _Optional[int] = ..., text: _Optional[str] = ..., token_ids: _Optional[_Iterable[int]] = ..., reason: _Optional[_Union[FinishReason, str]] = ..., stop: _Optional[str] = ..., logprob: _Optional[float] = ..., token_logprobs: _Optional[_Iterable[float]] = ..., score: _Optional[float] = ..., ngram_share: _Optional[float] = ..., sources: _Optional[_Iterable[_Union[QuoteSource, _Mapping]]] = ...) -> None: ...

class DraftsFinished(_message.Message):
    __slots__ = ("made", "dropped", "lm_forwards", "lm_positions", "verified_positions", "overlap", "draft_seconds", "verify_seconds", "search_seconds", "lookup_seconds")
    MADE_FIELD_NUMBER: _ClassVar[int]
    DROPPED_FIELD_NUMBER: _ClassVar[int]
    LM_FORWARDS_FIELD_NUMBER: _ClassVar[int]
    LM_POSITIONS_FIELD_NUMBER: _ClassVar[int]
    VERIFIED_POSITIONS_FIELD_NUMBER: _ClassVar[int]
    OVERLAP_FIELD_NUMBER: _ClassVar[int]
    DRAFT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    VERIFY_SECONDS_FIELD_NUMBER: _ClassVar[int]
    SEARCH_SECONDS_FIELD_NUMBER: _ClassVar[int]
    LOOKUP_SECONDS_FIELD_NUMBER: _ClassVar[int]
    made: int
    dropped: int
    lm_forwards: int
    lm_positions: int
    verified_positions: int
    overlap: float
    draft_seconds: float
    verify_seconds: float
    search_seconds: float
    lookup_seconds: float
    def __init__(self, made: _Optional[int] = ..., dropped: _Optional[int] = ..., lm_forwards: _Optional[int] = ..., lm_positions: _Optional[int] = ..., verified_positions: _Optional[int] = ..., overlap: _Optional[float] = ..., draft_seconds: _Optional[float] = ..., verify_seconds: _Optional[float] = ..., search_seconds: _Optional[float] = ..., lookup_seconds: _Optional[float] = ...) -> None: ...

class DraftResponse(_message.Message):
    __slots__ = ("planned", "started", "delta", "finished", "summary")
    PLANNED_FIELD_NUMBER: _ClassVar[int]
    STARTED_FIELD_NUMBER: _ClassVar[int]
    DELTA_FIELD_NUMBER: _ClassVar[int]
    FINISHED_FIELD_NUMBER: _ClassVar[int]
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    planned: DraftsPlanned
    started: GenerateStarted
    delta: DraftDelta
    finished: DraftFinished
    summary: DraftsFinished
    def __init__(self, planned: _Optional[_Union[DraftsPlanned, _Mapping]] = ..., started: _Optional[_Union[GenerateStarted, _Mapping]] = ..., delta: _Optional[_Union[DraftDelta, _Mapping]] = ..., finished: _Optional[_Union[DraftFinished, _Mapping]] = ..., summary: _Optional[_Union[DraftsFinished, _Mapping]] = ...) -> None: ...

class GenerateResponse(_message.Message):
    __slots__ = ("started", "delta", "finished", "context", "span", "revoked")
    STARTED_FIELD_NUMBER: _ClassVar[int]
    DELTA_FIELD_NUMBER: _ClassVar[int]
    FINISHED_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    SPAN_FIELD_NUMBER: _ClassVar[int]
    REVOKED_FIELD_NUMBER: _ClassVar[int]
    started: GenerateStarted
    delta: GenerateDelta
    finished: SequenceFinished
    context: ContextLoaded
    span: QuotedSpan
    revoked: SpanRevoked
    def __init__(self, started: _Optional[_Union[GenerateStarted, _Mapping]] = ..., delta: _Optional[_Union[GenerateDelta, _Mapping]] = ..., finished: _Optional[_Union[SequenceFinished, _Mapping]] = ..., context: _Optional[_Union[ContextLoaded, _Mapping]] = ..., span: _Optional[_Union[QuotedSpan, _Mapping]] = ..., revoked: _Optional[_Union[SpanRevoked, _Mapping]] = ...) -> None: ...

class ScoreRequest(_message.Message):
    __slots__ = ("model", "text", "tokens", "skip_tokens", "top", "nest")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    SKIP_TOKENS_FIELD_NUMBER: _ClassVar[int]
    TOP_FIELD_NUMBER: _ClassVar[int]
    NEST_FIELD_NUMBER: _ClassVar[int]
    model: str
    text: str
    tokens: TokenIds
    skip_tokens: int
    top: int
    nest: NestSettings
    def __init__(self, model: _Optional[str] = ..., text: _Optional[str] = ..., tokens: _Optional[_Union[TokenIds, _Mapping]] = ..., skip_tokens: _Optional[int] = ..., top: _Optional[int] = ..., nest: _Optional[_Union[NestSettings, _Mapping]] = ...) -> None: ...

class ScoreResponse(_message.Message):
    __slots__ = ("tokens", "total_logprob", "perplexity", "model_fingerprint")
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_LOGPROB_FIELD_NUMBER: _ClassVar[int]
    PERPLEXITY_FIELD_NUMBER: _ClassVar[int]
    MODEL_FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    tokens: _containers.RepeatedCompositeFieldContainer[TokenLogprob]
    total_logprob: float
    perplexity: float
    model_fingerprint: str
    def __init__(self, tokens: _Optional[_Iterable[_Union[TokenLogprob, _Mapping]]] = ..., total_logprob: _Optional[float] = ..., perplexity: _Optional[float] = ..., model_fingerprint: _Optional[str] = ...) -> None: ...

class GenerateBatchRequest(_message.Message):
    __slots__ = ("model", "input", "sampling", "n", "max_tokens", "stop", "logprobs", "request_id", "skip_cache", "min_tokens", "stop_token_ids", "bad_words", "structured")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    INPUT_FIELD_NUMBER: _ClassVar[int]
    SAMPLING_FIELD_NUMBER: _ClassVar[int]
    N_FIELD_NUMBER: _ClassVar[int]
    MAX_TOKENS_FIELD_NUMBER: _ClassVar[int]
    STOP_FIELD_NUMBER: _ClassVar[int]
    LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    SKIP_CACHE_FIELD_NUMBER: _ClassVar[int]
    MIN_TOKENS_FIELD_NUMBER: _ClassVar[int]
    STOP_TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    BAD_WORDS_FIELD_NUMBER: _ClassVar[int]
    STRUCTURED_FIELD_NUMBER: _ClassVar[int]
    model: str
    input: str
    sampling: SamplingConfig
    n: int
    max_tokens: int
    stop: _containers.RepeatedScalarFieldContainer[str]
    logprobs: int
    request_id: str
    skip_cache: bool
    min_tokens: int
    stop_token_ids: _containers.RepeatedScalarFieldContainer[int]
    bad_words: _containers.RepeatedScalarFieldContainer[str]
    structured: StructuredOutput
    def __init__(self, model: _Optional[str] = ..., input: _Optional[str] = ..., sampling: _Optional[_Union[SamplingConfig, _Mapping]] = ..., n: _Optional[int] = ..., max_tokens: _Optional[int] = ..., stop: _Optional[_Iterable[str]] = ..., logprobs: _Optional[int] = ..., request_id: _Optional[str] = ..., skip_cache: bool = ..., min_tokens: _Optional[int] = ..., stop_token_ids: _Optional[_Iterable[int]] = ..., bad_words: _Optional[_Iterable[str]] = ..., structured: _Optional[_Union[StructuredOutput, _Mapping]] = ...) -> None: ...

class GenerateBatchResponse(_message.Message):
    __slots__ = ("output", "succeeded", "failed", "prompt_tokens", "generated_tokens")
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    SUCCEEDED_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    GENERATED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    output: _artifacts_pb2.Artifact
    succeeded: int
    failed: int
    prompt_tokens: int
    generated_tokens: int
    def __init__(self, output: _Optional[_Union[_artifacts_pb2.Artifact, _Mapping]] = ..., succeeded: _Optional[int] = ..., failed: _Optional[int] = ..., prompt_tokens: _Optional[int] = ..., generated_tokens: _Optional[int] = ...) -> None: ...

class TuneDraftsRequest(_message.Message):
    __slots__ = ("model", "ngrams", "texts", "k", "prefixes", "request_id", "skip_cache")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    NGRAMS_FIELD_NUMBER: _ClassVar[int]
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    K_FIELD_NUMBER: _ClassVar[int]
    PREFIXES_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    SKIP_CACHE_FIELD_NUMBER: _ClassVar[int]
    model: str
    ngrams: str
    texts: str
    k: int
    prefixes: int
    request_id: str
    skip_cache: bool
    def __init__(self, model: _Optional[str] = ..., ngrams: _Optional[str] = ..., texts: _Optional[str] = ..., k: _Optional[int] = ..., prefixes: _Optional[int] = ..., request_id: _Optional[str] = ..., skip_cache: bool = ...) -> None: ...

class TuneDraftsResponse(_message.Message):
    __slots__ = ("alpha", "temperature", "perplexity", "trials", "model_fingerprint", "ngrams_artifact", "prefixes")
    class Trial(_message.Message):
        __slots__ = ("alpha", "temperature", "perplexity", "best_perplexity")
        ALPHA_FIELD_NUMBER: _ClassVar[int]
        TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
        PERPLEXITY_FIELD_NUMBER: _ClassVar[int]
        BEST_PERPLEXITY_FIELD_NUMBER: _ClassVar[int]
        alpha: float
        temperature: float
        perplexity: float
        best_perplexity: float
        def __init__(self, alpha: _Optional[float] = ..., temperature: _Optional[float] = ..., perplexity: _Optional[float] = ..., best_perplexity: _Optional[float] = ...) -> None: ...
    ALPHA_FIELD_NUMBER: _ClassVar[int]
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    PERPLEXITY_FIELD_NUMBER: _ClassVar[int]
    TRIALS_FIELD_NUMBER: _ClassVar[int]
    MODEL_FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    NGRAMS_ARTIFACT_FIELD_NUMBER: _ClassVar[int]
    PREFIXES_FIELD_NUMBER: _ClassVar[int]
    alpha: float
    temperature: float
    perplexity: float
    trials: _containers.RepeatedCompositeFieldContainer[TuneDraftsResponse.Trial]
    model_fingerprint: str
    ngrams_artifact: str
    prefixes: int
    def __init__(self, alpha: _Optional[float] = ..., temperature: _Optional[float] = ..., perplexity: _Optional[float] = ..., trials: _Optional[_Iterable[_Union[TuneDraftsResponse.Trial, _Mapping]]] = ..., model_fingerprint: _Optional[str] = ..., ngrams_artifact: _Optional[str] = ..., prefixes: _Optional[int] = ...) -> None: ...

class GetEngineInfoRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetEngineInfoResponse(_message.Message):
    __slots__ = ("models", "queue_limit")
    class LoadedModel(_message.Message):
        __slots__ = ("model", "fingerprint", "device", "dtype", "forward", "running", "waiting", "cache_bytes_used", "cache_bytes_limit", "prefill_tokens", "prefill_tokens_shared", "generated_tokens", "decode_steps")
        MODEL_FIELD_NUMBER: _ClassVar[int]
        FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
        DEVICE_FIELD_NUMBER: _ClassVar[int]
        DTYPE_FIELD_NUMBER: _ClassVar[int]
        FORWARD_FIELD_NUMBER: _ClassVar[int]
        RUNNING_FIELD_NUMBER: _ClassVar[int]
        WAITING_FIELD_NUMBER: _ClassVar[int]
        CACHE_BYTES_USED_FIELD_NUMBER: _ClassVar[int]
        CACHE_BYTES_LIMIT_FIELD_NUMBER: _ClassVar[int]
        PREFILL_TOKENS_FIELD_NUMBER: _ClassVar[int]
        PREFILL_TOKENS_SHARED_FIELD_NUMBER: _ClassVar[int]
        GENERATED_TOKENS_FIELD_NUMBER: _ClassVar[int]
        DECODE_STEPS_FIELD_NUMBER: _ClassVar[int]
        model: str
        fingerprint: str
        device: str
        dtype: str
        forward: str
        running: int
        waiting: int
        cache_bytes_used: int
        cache_bytes_limit: int
        prefill_tokens: int
        prefill_tokens_shared: int
        generated_tokens: int
        decode_steps: int
        def __init__(self, model: _Optional[str] = ..., fingerprint: _Optional[str] = ..., device: _Optional[str] = ..., dtype: _Optional[str] = ..., forward: _Optional[str] = ..., running: _Optional[int] = ..., waiting: _Optional[int] = ..., cache_bytes_used: _Optional[int] = ..., cache_bytes_limit: _Optional[int] = ..., prefill_tokens: _Optional[int] = ..., prefill_tokens_shared: _Optional[int] = ..., generated_tokens: _Optional[int] = ..., decode_steps: _Optional[int] = ...) -> None: ...
    MODELS_FIELD_NUMBER: _ClassVar[int]
    QUEUE_LIMIT_FIELD_NUMBER: _ClassVar[int]
    models: _containers.RepeatedCompositeFieldContainer[GetEngineInfoResponse.LoadedModel]
    queue_limit: int
    def __init__(self, models: _Optional[_Iterable[_Union[GetEngineInfoResponse.LoadedModel, _Mapping]]] = ..., queue_limit: _Optional[int] = ...) -> None: ...
