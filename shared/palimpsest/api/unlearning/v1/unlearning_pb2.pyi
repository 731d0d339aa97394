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

class RemovalState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    REMOVAL_STATE_UNSPECIFIED: _ClassVar[RemovalState]
    REMOVAL_STATE_RECEIVED: _ClassVar[RemovalState]
    REMOVAL_STATE_HELD: _ClassVar[RemovalState]
    REMOVAL_STATE_QUEUED: _ClassVar[RemovalState]
    REMOVAL_STATE_RUNNING: _ClassVar[RemovalState]
    REMOVAL_STATE_SUCCEEDED: _ClassVar[RemovalState]
    REMOVAL_STATE_FAILED: _ClassVar[RemovalState]
    REMOVAL_STATE_CANCELLED: _ClassVar[RemovalState]
    REMOVAL_STATE_ROLLED_BACK: _ClassVar[RemovalState]

class Verdict(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    VERDICT_UNSPECIFIED: _ClassVar[Verdict]
    VERDICT_DIVERGED: _ClassVar[Verdict]
    VERDICT_NOT_REMOVED: _ClassVar[Verdict]
    VERDICT_PARTLY_REMOVED: _ClassVar[Verdict]
    VERDICT_UTILITY_LOST: _ClassVar[Verdict]
    VERDICT_OVER_UNLEARNED: _ClassVar[Verdict]
    VERDICT_REMOVED: _ClassVar[Verdict]
    VERDICT_UTILITY_KEPT: _ClassVar[Verdict]
    VERDICT_UNDECIDED: _ClassVar[Verdict]
REMOVAL_STATE_UNSPECIFIED: RemovalState
REMOVAL_STATE_RECEIVED: RemovalState
REMOVAL_STATE_HELD: RemovalState
REMOVAL_STATE_QUEUED: RemovalState
REMOVAL_STATE_RUNNING: RemovalState
REMOVAL_STATE_SUCCEEDED: RemovalState
REMOVAL_STATE_FAILED: RemovalState
REMOVAL_STATE_CANCELLED: RemovalState
REMOVAL_STATE_ROLLED_BACK: RemovalState
VERDICT_UNSPECIFIED: Verdict
VERDICT_DIVERGED: Verdict
VERDICT_NOT_REMOVED: Verdict
VERDICT_PARTLY_REMOVED: Verdict
VERDICT_UTILITY_LOST: Verdict
VERDICT_OVER_UNLEARNED: Verdict
VERDICT_REMOVED: Verdict
VERDICT_UTILITY_KEPT: Verdict
VERDICT_UNDECIDED: Verdict

class RemovalPlan(_message.Message):
    __slots__ = ("model", "new_model", "forget", "retain", "holdout", "utility", "references", "algorithm", "parameters", "training", "stopping", "corpora", "ngram_stores", "contexts", "delete_forget_set", "attacks", "utility_budget", "search", "start", "teacher", "replay", "coalesce")
    class ParametersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    MODEL_FIELD_NUMBER: _ClassVar[int]
    NEW_MODEL_FIELD_NUMBER: _ClassVar[int]
    FORGET_FIELD_NUMBER: _ClassVar[int]
    RETAIN_FIELD_NUMBER: _ClassVar[int]
    HOLDOUT_FIELD_NUMBER: _ClassVar[int]
    UTILITY_FIELD_NUMBER: _ClassVar[int]
    REFERENCES_FIELD_NUMBER: _ClassVar[int]
    ALGORITHM_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    TRAINING_FIELD_NUMBER: _ClassVar[int]
    STOPPING_FIELD_NUMBER: _ClassVar[int]
    CORPORA_FIELD_NUMBER: _ClassVar[int]
    NGRAM_STORES_FIELD_NUMBER: _ClassVar[int]
    CONTEXTS_FIELD_NUMBER: _ClassVar[int]
    DELETE_FORGET_SET_FIELD_NUMBER: _ClassVar[int]
    ATTACKS_FIELD_NUMBER: _ClassVar[int]
    UTILITY_BUDGET_FIELD_NUMBER: _ClassVar[int]
    SEARCH_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    TEACHER_FIELD_NUMBER: _ClassVar[int]
    REPLAY_FIELD_NUMBER: _ClassVar[int]
    COALESCE_FIELD_NUMBER: _ClassVar[int]
    model: str
    new_model: str
    forget: str
    retain: str
    holdout: str
    utility: str
    references: _containers.RepeatedScalarFieldContainer[str]
    algorithm: str
    parameters: _containers.ScalarMap[str, str]
    training: Training
    stopping: Stopping
    corpora: _containers.RepeatedCompositeFieldContainer[CorpusPurge]
    ngram_stores: _containers.RepeatedScalarFieldContainer[str]
    contexts: _containers.RepeatedScalarFieldContainer[str]
    delete_forget_set: bool
    attacks: Attacks
    utility_budget: float
    search: Search
    start: str
    teacher: str
    replay: Replay
    coalesce: bool
    def __init__(self, model: _Optional[str] = ..., new_model: _Optional[str] = ..., forget: _Optional[str] = ..., retain: _Optional[str] = ..., holdout: _Optional[str] = ..., utility: _Optional[str] = ..., references: _Optional[_Iterable[str]] = ..., algorithm: _Optional[str] = ..., parameters: _Optional[_Mapping[str, str]] = ..., training: _Optional[_Union[Training, _Mapping]] = ..., stopping: _Optional[_Union[Stopping, _Mapping]] = ..., corpora: _Optional[_Iterable[_Union[CorpusPurge, _Mapping]]] = ..., ngram_stores: _Optional[_Iterable[str]] = ..., contexts: _Optional[_Iterable[str]] = ..., delete_forget_set: bool = ..., attacks: _Optional[_Union[Attacks, _Mapping]] = ..., utility_budget: _Optional[float] = ..., search: _Optional[_Union[Search, _Mapping]] = ..., start: _Optional[str] = ..., teacher: _Optional[str] = ..., replay: _Optional[_Union[Replay, _Mapping]] = ..., coalesce: bool = ...) -> None: ...

class Replay(_message.Message):
    __slots__ = ("draws", "keep", "tokens", "prompt")
    DRAWS_FIELD_NUMBER: _ClassVar[int]
    KEEP_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    draws: int
    keep: int
    tokens: int
    prompt: int
    def __init__(self, draws: _Optional[int] = ..., keep: _Optional[int] = ..., tokens: _Optional[int] = ..., prompt: _Optional[int] = ...) -> None: ...

class Search(_message.Message):
    __slots__ = ("trials", "learning_rates", "retain_weights", "betas")
    TRIALS_FIELD_NUMBER: _ClassVar[int]
    LEARNING_RATES_FIELD_NUMBER: _ClassVar[int]
    RETAIN_WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    BETAS_FIELD_NUMBER: _ClassVar[int]
    trials: int
    learning_rates: _containers.RepeatedScalarFieldContainer[float]
    retain_weights: _containers.RepeatedScalarFieldContainer[float]
    betas: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, trials: _Optional[int] = ..., learning_rates: _Optional[_Iterable[float]] = ..., retain_weights: _Optional[_Iterable[float]] = ..., betas: _Optional[_Iterable[float]] = ...) -> None: ...

class Attacks(_message.Message):
    __slots__ = ("names", "steps", "learning_rate", "seed", "samples", "unrelated", "never_knew")
    NAMES_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    LEARNING_RATE_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    UNRELATED_FIELD_NUMBER: _ClassVar[int]
    NEVER_KNEW_FIELD_NUMBER: _ClassVar[int]
    names: _containers.RepeatedScalarFieldContainer[str]
    steps: int
    learning_rate: float
    seed: int
    samples: int
    unrelated: str
    never_knew: str
    def __init__(self, names: _Optional[_Iterable[str]] = ..., steps: _Optional[int] = ..., learning_rate: _Optional[float] = ..., seed: _Optional[int] = ..., samples: _Optional[int] = ..., unrelated: _Optional[str] = ..., never_knew: _Optional[str] = ...) -> None: ...

class Training(_message.Message):
    __slots__ = ("steps", "learning_rate", "batch", "schedule", "warmup_steps", "weight_decay", "seed", "sequence_tokens", "lora_rank", "lora_alpha", "checkpoint_steps")
    STEPS_FIELD_NUMBER: _ClassVar[int]
    LEARNING_RATE_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    SCHEDULE_FIELD_NUMBER: _ClassVar[int]
    WARMUP_STEPS_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_DECAY_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_TOKENS_FIELD_NUMBER: _ClassVar[int]
    LORA_RANK_FIELD_NUMBER: _ClassVar[int]
    LORA_ALPHA_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_STEPS_FIELD_NUMBER: _ClassVar[int]
    steps: int
    learning_rate: float
    batch: int
    schedule: str
    warmup_steps: int
    weight_decay: float
    seed: int
    sequence_tokens: int
    lora_rank: int
    lora_alpha: float
    checkpoint_steps: int
    def __init__(self, steps: _Optional[int] = ..., learning_rate: _Optional[float] = ..., batch: _Optional[int] = ..., schedule: _Optional[str] = ..., warmup_steps: _Optional[int] = ..., weight_decay: _Optional[float] = ..., seed: _Optional[int] = ..., sequence_tokens: _Optional[int] = ..., lora_rank: _Optional[int] = ..., lora_alpha: _Optional[float] = ..., checkpoint_steps: _Optional[int] = ...) -> None: ...

class Stopping(_message.Message):
    __slots__ = ("rule", "every_steps")
    RULE_FIELD_NUMBER: _ClassVar[int]
    EVERY_STEPS_FIELD_NUMBER: _ClassVar[int]
    rule: str
    every_steps: int
    def __init__(self, rule: _Optional[str] = ..., every_steps: _Optional[int] = ...) -> None: ...

class CorpusPurge(_message.Message):
    __slots__ = ("corpus", "documents")
    CORPUS_FIELD_NUMBER: _ClassVar[int]
    DOCUMENTS_FIELD_NUMBER: _ClassVar[int]
    corpus: str
    documents: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, corpus: _Optional[str] = ..., documents: _Optional[_Iterable[str]] = ...) -> None: ...

class PreviewRemovalRequest(_message.Message):
    __slots__ = ("plan",)
    PLAN_FIELD_NUMBER: _ClassVar[int]
    plan: RemovalPlan
    def __init__(self, plan: _Optional[_Union[RemovalPlan, _Mapping]] = ...) -> None: ...

class RemovalPreview(_message.Message):
    __slots__ = ("forget", "retain", "holdout", "utility", "overlaps", "overlap_count", "stores", "ahead", "steps", "training_tokens", "training_flops", "model_bytes", "parameters", "attacks", "earlier_requests", "total_utility_loss", "utility_budget", "trials", "holdout_overlaps", "holdout_overlap_count", "lengths", "alike")
    class ParametersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    FORGET_FIELD_NUMBER: _ClassVar[int]
    RETAIN_FIELD_NUMBER: _ClassVar[int]
    HOLDOUT_FIELD_NUMBER: _ClassVar[int]
    UTILITY_FIELD_NUMBER: _ClassVar[int]
    OVERLAPS_FIELD_NUMBER: _ClassVar[int]
    OVERLAP_COUNT_FIELD_NUMBER: _ClassVar[int]
    STORES_FIELD_NUMBER: _ClassVar[int]
    AHEAD_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    TRAINING_TOKENS_FIELD_NUMBER: _ClassVar[int]
    TRAINING_FLOPS_FIELD_NUMBER: _ClassVar[int]
    MODEL_BYTES_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    ATTACKS_FIELD_NUMBER: _ClassVar[int]
    EARLIER_REQUESTS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_UTILITY_LOSS_FIELD_NUMBER: _ClassVar[int]
    UTILITY_BUDGET_FIELD_NUMBER: _ClassVar[int]
    TRIALS_FIELD_NUMBER: _ClassVar[int]
    HOLDOUT_OVERLAPS_FIELD_NUMBER: _ClassVar[int]
    HOLDOUT_OVERLAP_COUNT_FIELD_NUMBER: _ClassVar[int]
    LENGTHS_FIELD_NUMBER: _ClassVar[int]
    ALIKE_FIELD_NUMBER: _ClassVar[int]
    forget: DataSet
    retain: DataSet
    holdout: DataSet
    utility: DataSet
    overlaps: _containers.RepeatedCompositeFieldContainer[Overlap]
    overlap_count: int
    stores: _containers.RepeatedCompositeFieldContainer[StoreReach]
    ahead: int
    steps: int
    training_tokens: int
    training_flops: float
    model_bytes: int
    parameters: _containers.ScalarMap[str, str]
    attacks: _containers.RepeatedScalarFieldContainer[str]
    earlier_requests: int
    total_utility_loss: float
    utility_budget: float
    trials: int
    holdout_overlaps: _containers.RepeatedCompositeFieldContainer[HoldoutOverlap]
    holdout_overlap_count: int
    lengths: LengthMatch
    alike: int
    def __init__(self, forget: _Optional[_Union[DataSet, _Mapping]] = ..., retain: _Optional[_Union[DataSet, _Mapping]] = ..., holdout: _Optional[_Union[DataSet, _Mapping]] = ..., utility: _Optional[_Union[DataSet, _Mapping]] = ..., overlaps: _Optional[_Iterable[_Union[Overlap, _Mapping]]] = ..., overlap_count: _Optional[int] = ..., stores: _Optional[_Iterable[_Union[StoreReach, _Mapping]]] = ..., ahead: _Optional[int] = ..., steps: _Optional[int] = ..., training_tokens: _Optional[int] = ..., training_flops: _Optional[float] = ..., model_bytes: _Optional[int] = ..., parameters: _Optional[_Mapping[str, str]] = ..., attacks: _Optional[_Iterable[str]] = ..., earlier_requests: _Optional[int] = ..., total_utility_loss: _Optional[float] = ..., utility_budget: _Optional[float] = ..., trials: _Optional[int] = ..., holdout_overlaps: _Optional[_Iterable[_Union[HoldoutOverlap, _Mapping]]] = ..., holdout_overlap_count: _Optional[int] = ..., lengths: _Optional[_Union[LengthMatch, _Mapping]] = ..., alike: _Optional[int] = ...) -> None: ...

class DataSet(_message.Message):
    __slots__ = ("artifact", "documents", "questions", "tokens", "manifest")
    ARTIFACT_FIELD_NUMBER: _ClassVar[int]
    DOCUMENTS_FIELD_NUMBER: _ClassVar[int]
    QUESTIONS_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_FIELD_NUMBER: _ClassVar[int]
    artifact: str
    documents: int
    questions: int
    tokens: int
    manifest: str
    def __init__(self, artifact: _Optional[str] = ..., documents: _Optional[int] = ..., questions: _Optional[int] = ..., tokens: _Optional[int] = ..., manifest: _Optional[str] = ...) -> None: ...

class Overlap(_message.Message):
    __slots__ = ("forget", "retain", "share")
    FORGET_FIELD_NUMBER: _ClassVar[int]
    RETAIN_FIELD_NUMBER: _ClassVar[int]
    SHARE_FIELD_NUMBER: _ClassVar[int]
    forget: str
    retain: str
    share: float
    def __init__(self, forget: _Optional[str] = ..., retain: _Optional[str] = ..., share: _Optional[float] = ...) -> None: ...

class HoldoutOverlap(_message.Message):
    __slots__ = ("holdout", "set", "other", "share")
    HOLDOUT_FIELD_NUMBER: _ClassVar[int]
    SET_FIELD_NUMBER: _ClassVar[int]
    OTHER_FIELD_NUMBER: _ClassVar[int]
    SHARE_FIELD_NUMBER: _ClassVar[int]
    holdout: str
    set: str
    other: str
    share: float
    def __init__(self, holdout: _Optional[str] = ..., set: _Optional[str] = ..., other: _Optional[str] = ..., share: _Optional[float] = ...) -> None: ...

class LengthMatch(_message.Message):
    __slots__ = ("p_value", "matched")
    P_VALUE_FIELD_NUMBER: _ClassVar[int]
    MATCHED_FIELD_NUMBER: _ClassVar[int]
    p_value: float
    matched: bool
    def __init__(self, p_value: _Optional[float] = ..., matched: bool = ...) -> None: ...

class StoreReach(_message.Message):
    __slots__ = ("name", "present", "missing")
    NAME_FIELD_NUMBER: _ClassVar[int]
    PRESENT_FIELD_NUMBER: _ClassVar[int]
    MISSING_FIELD_NUMBER: _ClassVar[int]
    name: str
    present: int
    missing: int
    def __init__(self, name: _Optional[str] = ..., present: _Optional[int] = ..., missing: _Optional[int] = ...) -> None: ...

class CreateRemovalRequestRequest(_message.Message):
    __slots__ = ("plan", "removal_id", "hold", "request_id")
    PLAN_FIELD_NUMBER: _ClassVar[int]
    REMOVAL_ID_FIELD_NUMBER: _ClassVar[int]
    HOLD_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    plan: RemovalPlan
    removal_id: str
    hold: bool
    request_id: str
    def __init__(self, plan: _Optional[_Union[RemovalPlan, _Mapping]] = ..., removal_id: _Optional[str] = ..., hold: bool = ..., request_id: _Optional[str] = ...) -> None: ...

class GetRemovalRequestRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class ListRemovalRequestsRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListRemovalRequestsResponse(_message.Message):
    __slots__ = ("removal_requests", "next_page_token")
    REMOVAL_REQUESTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    removal_requests: _containers.RepeatedCompositeFieldContainer[RemovalRequest]
    next_page_token: str
    def __init__(self, removal_requests: _Optional[_Iterable[_Union[RemovalRequest, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class HoldRemovalRequestRequest(_message.Message):
    __slots__ = ("name", "request_id")
    NAME_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    name: str
    request_id: str
    def __init__(self, name: _Optional[str] = ..., request_id: _Optional[str] = ...) -> None: ...

class ApproveRemovalRequestRequest(_message.Message):
    __slots__ = ("name", "request_id")
    NAME_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    name: str
    request_id: str
    def __init__(self, name: _Optional[str] = ..., request_id: _Optional[str] = ...) -> None: ...

class RollBackRemovalRequestRequest(_message.Message):
    __slots__ = ("name", "request_id")
    NAME_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    name: str
    request_id: str
    def __init__(self, name: _Optional[str] = ..., request_id: _Optional[str] = ...) -> None: ...

class GetCertificateRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class RemovalRequest(_message.Message):
    __slots__ = ("name", "state", "operation", "plan", "create_time", "end_time", "error", "result", "shared_run")
    NAME_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    OPERATION_FIELD_NUMBER: _ClassVar[int]
    PLAN_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    END_TIME_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    SHARED_RUN_FIELD_NUMBER: _ClassVar[int]
    name: str
    state: RemovalState
    operation: str
    plan: RemovalPlan
    create_time: _timestamp_pb2.Timestamp
    end_time: _timestamp_pb2.Timestamp
    error: _status_pb2.Status
    result: Result
    shared_run: SharedRun
    def __init__(self, name: _Optional[str] = ..., state: _Optional[_Union[RemovalState, str]] = ..., operation: _Optional[str] = ..., plan: _Optional[_Union[RemovalPlan, _Mapping]] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., end_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., error: _Optional[_Union[_status_pb2.Status, _Mapping]] = ..., result: _Optional[_Union[Result, _Mapping]] = ..., shared_run: _Optional[_Union[SharedRun, _Mapping]] = ...) -> None: ...

class SharedRun(_message.Message):
    __slots__ = ("requests", "steps")
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    requests: _containers.RepeatedScalarFieldContainer[str]
    steps: int
    def __init__(self, requests: _Optional[_Iterable[str]] = ..., steps: _Optional[int] = ...) -> None: ...

class Result(_message.Message):
    __slots__ = ("verdict", "criteria", "forget", "retain", "holdout", "utility", "model_fingerprint", "new_model_fingerprint", "steps", "stopped", "measurements", "attacks", "stores", "certificate", "forget_set_deleted", "reference", "lengths", "curve", "earlier_requests", "recheck", "other_requests", "utility_loss", "total_utility_loss", "utility_budget", "trials", "start_fingerprint", "replayed", "teacher_fingerprint", "trained_together")
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    CRITERIA_FIELD_NUMBER: _ClassVar[int]
    FORGET_FIELD_NUMBER: _ClassVar[int]
    RETAIN_FIELD_NUMBER: _ClassVar[int]
    HOLDOUT_FIELD_NUMBER: _ClassVar[int]
    UTILITY_FIELD_NUMBER: _ClassVar[int]
    MODEL_FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    NEW_MODEL_FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    STOPPED_FIELD_NUMBER: _ClassVar[int]
    MEASUREMENTS_FIELD_NUMBER: _ClassVar[int]
    ATTACKS_FIELD_NUMBER: _ClassVar[int]
    STORES_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    FORGET_SET_DELETED_FIELD_NUMBER: _ClassVar[int]
    REFERENCE_FIELD_NUMBER: _ClassVar[int]
    LENGTHS_FIELD_NUMBER: _ClassVar[int]
    CURVE_FIELD_NUMBER: _ClassVar[int]
    EARLIER_REQUESTS_FIELD_NUMBER: _ClassVar[int]
    RECHECK_FIELD_NUMBER: _ClassVar[int]
    OTHER_REQUESTS_FIELD_NUMBER: _ClassVar[int]
    UTILITY_LOSS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_UTILITY_LOSS_FIELD_NUMBER: _ClassVar[int]
    UTILITY_BUDGET_FIELD_NUMBER: _ClassVar[int]
    TRIALS_FIELD_NUMBER: _ClassVar[int]
    START_FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    REPLAYED_FIELD_NUMBER: _ClassVar[int]
    TEACHER_FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    TRAINED_TOGETHER_FIELD_NUMBER: _ClassVar[int]
    verdict: Verdict
    criteria: _containers.RepeatedCompositeFieldContainer[Criterion]
    forget: DataSet
    retain: DataSet
    holdout: DataSet
    utility: DataSet
    model_fingerprint: str
    new_model_fingerprint: str
    steps: int
    stopped: str
    measurements: _containers.RepeatedCompositeFieldContainer[Measurement]
    attacks: _containers.RepeatedCompositeFieldContainer[AttackResult]
    stores: _containers.RepeatedCompositeFieldContainer[StoreEvidence]
    certificate: str
    forget_set_deleted: bool
    reference: str
    lengths: LengthMatch
    curve: str
    earlier_requests: _containers.RepeatedCompositeFieldContainer[EarlierRequest]
    recheck: _containers.RepeatedCompositeFieldContainer[Measurement]
    other_requests: int
    utility_loss: float
    total_utility_loss: float
    utility_budget: float
    trials: _containers.RepeatedCompositeFieldContainer[Trial]
    start_fingerprint: str
    replayed: int
    teacher_fingerprint: str
    trained_together: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, verdict: _Optional[_Union[Verdict, str]] = ..., criteria: _Optional[_Iterable[_Union[Criterion, _Mapping]]] = ..., forget: _Optional[_Union[DataSet, _Mapping]] = ..., retain: _Optional[_Union[DataSet, _Mapping]] = ..., holdout: _Optional[_Union[DataSet, _Mapping]] = ..., utility: _Optional[_Union[DataSet, _Mapping]] = ..., model_fingerprint: _Optional[str] = ..., new_model_fingerprint: _Optional[str] = ..., steps: _Optional[int] = ..., stopped: _Optional[str] = ..., measurements: _Optional[_Iterable[_Union[Measurement, _Mapping]]] = ..., attacks: _Optional[_Iterable[_Union[AttackResult, _Mapping]]] = ..., stores: _Optional[_Iterable[_Union[StoreEvidence, _Mapping]]] = ..., certificate: _Optional[str] = ..., forget_set_deleted: bool = ..., reference: _Optional[str] = ..., lengths: _Optional[_Union[LengthMatch, _Mapping]] = ..., curve: _Optional[str] = ..., earlier_requests: _Optional[_Iterable[_Union[EarlierRequest, _Mapping]]] = ..., recheck: _Optional[_Iterable[_Union[Measurement, _Mapping]]] = ..., other_requests: _Optional[int] = ..., utility_loss: _Optional[float] = ..., total_utility_loss: _Optional[float] = ..., utility_budget: _Optional[float] = ..., trials: _Optional[_Iterable[_Union[Trial, _Mapping]]] = ..., start_fingerprint: _Optional[str] = ..., replayed: _Optional[int] = ..., teacher_fingerprint: _Optional[str] = ..., trained_together: _Optional[_Iterable[str]] = ...) -> None: ...

class Trial(_message.Message):
    __slots__ = ("learning_rate", "retain_weight", "beta", "round", "steps", "cost", "chosen")
    LEARNING_RATE_FIELD_NUMBER: _ClassVar[int]
    RETAIN_WEIGHT_FIELD_NUMBER: _ClassVar[int]
    BETA_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    COST_FIELD_NUMBER: _ClassVar[int]
    CHOSEN_FIELD_NUMBER: _ClassVar[int]
    learning_rate: float
    retain_weight: float
    beta: float
    round: int
    steps: int
    cost: float
    chosen: bool
    def __init__(self, learning_rate: _Optional[float] = ..., retain_weight: _Optional[float] = ..., beta: _Optional[float] = ..., round: _Optional[int] = ..., steps: _Optional[int] = ..., cost: _Optional[float] = ..., chosen: bool = ...) -> None: ...

class EarlierRequest(_message.Message):
    __slots__ = ("name", "metric", "then", "now", "items", "reemerged", "skipped")
    NAME_FIELD_NUMBER: _ClassVar[int]
    METRIC_FIELD_NUMBER: _ClassVar[int]
    THEN_FIELD_NUMBER: _ClassVar[int]
    NOW_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    REEMERGED_FIELD_NUMBER: _ClassVar[int]
    SKIPPED_FIELD_NUMBER: _ClassVar[int]
    name: str
    metric: str
    then: float
    now: float
    items: int
    reemerged: bool
    skipped: str
    def __init__(self, name: _Optional[str] = ..., metric: _Optional[str] = ..., then: _Optional[float] = ..., now: _Optional[float] = ..., items: _Optional[int] = ..., reemerged: bool = ..., skipped: _Optional[str] = ...) -> None: ...

class Criterion(_message.Message):
    __slots__ = ("name", "verdict", "value", "before", "references", "band", "low", "high")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    REFERENCES_FIELD_NUMBER: _ClassVar[int]
    BAND_FIELD_NUMBER: _ClassVar[int]
    LOW_FIELD_NUMBER: _ClassVar[int]
    HIGH_FIELD_NUMBER: _ClassVar[int]
    name: str
    verdict: Verdict
    value: float
    before: float
    references: _containers.RepeatedScalarFieldContainer[float]
    band: float
    low: float
    high: float
    def __init__(self, name: _Optional[str] = ..., verdict: _Optional[_Union[Verdict, str]] = ..., value: _Optional[float] = ..., before: _Optional[float] = ..., references: _Optional[_Iterable[float]] = ..., band: _Optional[float] = ..., low: _Optional[float] = ..., high: _Optional[float] = ...) -> None: ...

class Measurement(_message.Message):
    __slots__ = ("metric", "model", "value", "low", "high", "unit", "count", "convention")
    METRIC_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    LOW_FIELD_NUMBER: _ClassVar[int]
    HIGH_FIELD_NUMBER: _ClassVar[int]
    UNIT_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    CONVENTION_FIELD_NUMBER: _ClassVar[int]
    metric: str
    model: str
    value: float
    low: float
    high: float
    unit: str
    count: int
    convention: str
    def __init__(self, metric: _Optional[str] = ..., model: _Optional[str] = ..., value: _Optional[float] = ..., low: _Optional[float] = ..., high: _Optional[float] = ..., unit: _Optional[str] = ..., count: _Optional[int] = ..., convention: _Optional[str] = ...) -> None: ...

class AttackResult(_message.Message):
    __slots__ = ("attack", "metric", "before", "after", "gain", "gain_low", "gain_high", "reference_gains", "recovered", "tolerated", "items", "failed", "precision", "injected", "not_measured", "bound")
    ATTACK_FIELD_NUMBER: _ClassVar[int]
    METRIC_FIELD_NUMBER: _ClassVar[int]
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    GAIN_FIELD_NUMBER: _ClassVar[int]
    GAIN_LOW_FIELD_NUMBER: _ClassVar[int]
    GAIN_HIGH_FIELD_NUMBER: _ClassVar[int]
    REFERENCE_GAINS_FIELD_NUMBER: _ClassVar[int]
    RECOVERED_FIELD_NUMBER: _ClassVar[int]
    TOLERATED_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    PRECISION_FIELD_NUMBER: _ClassVar[int]
    INJECTED_FIELD_NUMBER: _ClassVar[int]
    NOT_MEASURED_FIELD_NUMBER: _ClassVar[int]
    BOUND_FIELD_NUMBER: _ClassVar[int]
    attack: str
    metric: str
    before: float
    after: float
    gain: float
    gain_low: float
    gain_high: float
    reference_gains: _containers.RepeatedScalarFieldContainer[float]
    recovered: bool
    tolerated: bool
    items: int
    failed: bool
    precision: str
    injected: float
    not_measured: _containers.RepeatedCompositeFieldContainer[NotMeasured]
    bound: float
    def __init__(self, attack: _Optional[str] = ..., metric: _Optional[str] = ..., before: _Optional[float] = ..., after: _Optional[float] = ..., gain: _Optional[float] = ..., gain_low: _Optional[float] = ..., gain_high: _Optional[float] = ..., reference_gains: _Optional[_Iterable[float]] = ..., recovered: bool = ..., tolerated: bool = ..., items: _Optional[int] = ..., failed: bool = ..., precision: _Optional[str] = ..., injected: _Optional[float] = ..., not_measured: _Optional[_Iterable[_Union[NotMeasured, _Mapping]]] = ..., bound: _Optional[float] = ...) -> None: ...

class NotMeasured(_message.Message):
    __slots__ = ("model", "reason", "message")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    model: str
    reason: str
    message: str
    def __init__(self, model: _Optional[str] = ..., reason: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class StoreEvidence(_message.Message):
    __slots__ = ("name", "deleted", "missing", "shingles", "scanned_bytes", "absent")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DELETED_FIELD_NUMBER: _ClassVar[int]
    MISSING_FIELD_NUMBER: _ClassVar[int]
    SHINGLES_FIELD_NUMBER: _ClassVar[int]
    SCANNED_BYTES_FIELD_NUMBER: _ClassVar[int]
    ABSENT_FIELD_NUMBER: _ClassVar[int]
    name: str
    deleted: int
    missing: int
    shingles: int
    scanned_bytes: int
    absent: bool
    def __init__(self, name: _Optional[str] = ..., deleted: _Optional[int] = ..., missing: _Optional[int] = ..., shingles: _Optional[int] = ..., scanned_bytes: _Optional[int] = ..., absent: bool = ...) -> None: ...

class Certificate(_message.Message):
    __slots__ = ("certificate", "public_key", "revocations")
    CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    PUBLIC_KEY_FIELD_NUMBER: _ClassVar[int]
    REVOCATIONS_FIELD_NUMBER: _ClassVar[int]
    certificate: bytes
    public_key: bytes
    revocations: bytes
    def __init__(self, certificate: _Optional[bytes] = ..., public_key: _Optional[bytes] = ..., revocations: _Optional[bytes] = ...) -> None: ...

class ReadAuditLogRequest(_message.Message):
    __slots__ = ("offset",)
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    offset: int
    def __init__(self, offset: _Optional[int] = ...) -> None: ...

class ReadAuditLogResponse(_message.Message):
    __slots__ = ("data",)
    DATA_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    def __init__(self, data: _Optional[bytes] = ...) -> None: ...
