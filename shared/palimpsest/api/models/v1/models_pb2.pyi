import datetime

from google.longrunning import operations_pb2 as _operations_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from palimpsest.api.artifacts.v1 import artifacts_pb2 as _artifacts_pb2
from palimpsest.api.options.v1 import options_pb2 as _options_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Relation(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RELATION_UNSPECIFIED: _ClassVar[Relation]
    RELATION_FINE_TUNED: _ClassVar[Relation]
    RELATION_UNLEARNED: _ClassVar[Relation]
    RELATION_MERGED: _ClassVar[Relation]
    RELATION_QUANTIZED: _ClassVar[Relation]

class ExampleFormat(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    EXAMPLE_FORMAT_UNSPECIFIED: _ClassVar[ExampleFormat]
    EXAMPLE_FORMAT_PLAIN_TEXT: _ClassVar[ExampleFormat]

class LearningRateSchedule(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    LEARNING_RATE_SCHEDULE_UNSPECIFIED: _ClassVar[LearningRateSchedule]
    LEARNING_RATE_SCHEDULE_CONSTANT: _ClassVar[LearningRateSchedule]
    LEARNING_RATE_SCHEDULE_COSINE: _ClassVar[LearningRateSchedule]
    LEARNING_RATE_SCHEDULE_LINEAR: _ClassVar[LearningRateSchedule]
RELATION_UNSPECIFIED: Relation
RELATION_FINE_TUNED: Relation
RELATION_UNLEARNED: Relation
RELATION_MERGED: Relation
RELATION_QUANTIZED: Relation
EXAMPLE_FORMAT_UNSPECIFIED: ExampleFormat
EXAMPLE_FORMAT_PLAIN_TEXT: ExampleFormat
LEARNING_RATE_SCHEDULE_UNSPECIFIED: LearningRateSchedule
LEARNING_RATE_SCHEDULE_CONSTANT: LearningRateSchedule
LEARNING_RATE_SCHEDULE_COSINE: LearningRateSchedule
LEARNING_RATE_SCHEDULE_LINEAR: LearningRateSchedule

class Model(_message.Message):
    __slots__ = ("model_id", "fingerprint", "tokenizer_fingerprint", "source", "source_format", "architecture", "parameter_count", "size_bytes", "dtype", "context_length", "vocab_size", "has_chat_template", "parent", "relation", "create_time", "labels", "training")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    MODEL_ID_FIELD_NUMBER: _ClassVar[int]
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    TOKENIZER_FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FORMAT_FIELD_NUMBER: _ClassVar[int]
    ARCHITECTURE_FIELD_NUMBER: _ClassVar[int]
    PARAMETER_COUNT_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_LENGTH_FIELD_NUMBER: _ClassVar[int]
    VOCAB_SIZE_FIELD_NUMBER: _ClassVar[int]
    HAS_CHAT_TEMPLATE_FIELD_NUMBER: _ClassVar[int]
    PARENT_FIELD_NUMBER: _ClassVar[int]
    RELATION_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    TRAINING_FIELD_NUMBER: _ClassVar[int]
    model_id: str
    fingerprint: str
    tokenizer_fingerprint: str
    source: str
    source_format: str
    architecture: str
    parameter_count: int
    size_bytes: int
    dtype: str
    context_length: int
    vocab_size: int
    has_chat_template: bool
    parent: str
    relation: Relation
    create_time: _timestamp_pb2.Timestamp
    labels: _containers.ScalarMap[str, str]
    training: Training
    def __init__(self, model_id: _Optional[str] = ..., fingerprint: _Optional[str] = ..., tokenizer_fingerprint: _Optional[str] = ..., source: _Optional[str] = ..., source_format: _Optional[str] = ..., architecture: _Optional[str] = ..., parameter_count: _Optional[int] = ..., size_bytes: _Optional[int] = ..., dtype: _Optional[str] = ..., context_length: _Optional[int] = ..., vocab_size: _Optional[int] = ..., has_chat_template: bool = ..., parent: _Optional[str] = ..., relation: _Optional[_Union[Relation, str]] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., labels: _Optional[_Mapping[str, str]] = ..., training: _Optional[_Union[Training, _Mapping]] = ...) -> None: ...

class Training(_message.Message):
    __slots__ = ("steps", "effective_batch", "devices")
    STEPS_FIELD_NUMBER: _ClassVar[int]
    EFFECTIVE_BATCH_FIELD_NUMBER: _ClassVar[int]
    DEVICES_FIELD_NUMBER: _ClassVar[int]
    steps: int
    effective_batch: int
    devices: int
    def __init__(self, steps: _Optional[int] = ..., effective_batch: _Optional[int] = ..., devices: _Optional[int] = ...) -> None: ...

class RegisterModelRequest(_message.Message):
    __slots__ = ("model_id", "source", "parent", "relation", "labels", "request_id")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    MODEL_ID_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    PARENT_FIELD_NUMBER: _ClassVar[int]
    RELATION_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    model_id: str
    source: str
    parent: str
    relation: Relation
    labels: _containers.ScalarMap[str, str]
    request_id: str
    def __init__(self, model_id: _Optional[str] = ..., source: _Optional[str] = ..., parent: _Optional[str] = ..., relation: _Optional[_Union[Relation, str]] = ..., labels: _Optional[_Mapping[str, str]] = ..., request_id: _Optional[str] = ...) -> None: ...

class GetModelRequest(_message.Message):
    __slots__ = ("model_id",)
    MODEL_ID_FIELD_NUMBER: _ClassVar[int]
    model_id: str
    def __init__(self, model_id: _Optional[str] = ...) -> None: ...

class ListModelsRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListModelsResponse(_message.Message):
    __slots__ = ("models", "next_page_token")
    MODELS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    models: _containers.RepeatedCompositeFieldContainer[Model]
    next_page_token: str
    def __init__(self, models: _Optional[_Iterable[_Union[Model, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class DeleteModelRequest(_message.Message):
    __slots__ = ("model_id",)
    MODEL_ID_FIELD_NUMBER: _ClassVar[int]
    model_id: str
    def __init__(self, model_id: _Optional[str] = ...) -> None: ...

class DeleteModelResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetLineageRequest(_message.Message):
    __slots__ = ("model_id",)
    MODEL_ID_FIELD_NUMBER: _ClassVar[int]
    model_id: str
    def __init__(self, model_id: _Optional[str] = ...) -> None: ...

class GetLineageResponse(_message.Message):
    __slots__ = ("ancestors", "children", "omitted")
    ANCESTORS_FIELD_NUMBER: _ClassVar[int]
    CHILDREN_FIELD_NUMBER: _ClassVar[int]
    OMITTED_FIELD_NUMBER: _ClassVar[int]
    ancestors: _containers.RepeatedCompositeFieldContainer[Model]
    children: _containers.RepeatedCompositeFieldContainer[Model]
    omitted: int
    def __init__(self, ancestors: _Optional[_Iterable[_Union[Model, _Mapping]]] = ..., children: _Optional[_Iterable[_Union[Model, _Mapping]]] = ..., omitted: _Optional[int] = ...) -> None: ...

class CheckPairRequest(_message.Message):
    __slots__ = ("base", "donor", "request_id")
    BASE_FIELD_NUMBER: _ClassVar[int]
    DONOR_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    base: str
    donor: str
    request_id: str
    def __init__(self, base: _Optional[str] = ..., donor: _Optional[str] = ..., request_id: _Optional[str] = ...) -> None: ...

class PairReport(_message.Message):
    __slots__ = ("compatible", "differences", "tied", "same_tokenizer", "deltas", "max_abs_diff", "tensors_compared")
    COMPATIBLE_FIELD_NUMBER: _ClassVar[int]
    DIFFERENCES_FIELD_NUMBER: _ClassVar[int]
    TIED_FIELD_NUMBER: _ClassVar[int]
    SAME_TOKENIZER_FIELD_NUMBER: _ClassVar[int]
    DELTAS_FIELD_NUMBER: _ClassVar[int]
    MAX_ABS_DIFF_FIELD_NUMBER: _ClassVar[int]
    TENSORS_COMPARED_FIELD_NUMBER: _ClassVar[int]
    compatible: bool
    differences: _containers.RepeatedScalarFieldContainer[str]
    tied: bool
    same_tokenizer: bool
    deltas: _containers.RepeatedCompositeFieldContainer[TensorDelta]
    max_abs_diff: float
    tensors_compared: int
    def __init__(self, compatible: bool = ..., differences: _Optional[_Iterable[str]] = ..., tied: bool = ..., same_tokenizer: bool = ..., deltas: _Optional[_Iterable[_Union[TensorDelta, _Mapping]]] = ..., max_abs_diff: _Optional[float] = ..., tensors_compared: _Optional[int] = ...) -> None: ...

class TensorDelta(_message.Message):
    __slots__ = ("tensor", "layer", "component", "delta_norm", "relative_norm", "max_abs_diff")
    TENSOR_FIELD_NUMBER: _ClassVar[int]
    LAYER_FIELD_NUMBER: _ClassVar[int]
    COMPONENT_FIELD_NUMBER: _ClassVar[int]
    DELTA_NORM_FIELD_NUMBER: _ClassVar[int]
    RELATIVE_NORM_FIELD_NUMBER: _ClassVar[int]
    MAX_ABS_DIFF_FIELD_NUMBER: _ClassVar[int]
    tensor: str
    layer: int
    component: str
    delta_norm: float
    relative_norm: float
    max_abs_diff: float
    def __init__(self, tensor: _Optional[str] = ..., layer: _Optional[int] = ..., component: _Optional[str] = ..., delta_norm: _Optional[float] = ..., relative_norm: _Optional[float] = ..., max_abs_diff: _Optional[float] = ...) -> None: ...

class LoraConfig(_message.Message):
    __slots__ = ("rank", "alpha", "targets", "unmerged")
    RANK_FIELD_NUMBER: _ClassVar[int]
    ALPHA_FIELD_NUMBER: _ClassVar[int]
    TARGETS_FIELD_NUMBER: _ClassVar[int]
    UNMERGED_FIELD_NUMBER: _ClassVar[int]
    rank: int
    alpha: float
    targets: _containers.RepeatedScalarFieldContainer[str]
    unmerged: bool
    def __init__(self, rank: _Optional[int] = ..., alpha: _Optional[float] = ..., targets: _Optional[_Iterable[str]] = ..., unmerged: bool = ...) -> None: ...

class FineTuneRequest(_message.Message):
    __slots__ = ("base", "model_id", "train", "validation", "format", "steps", "epochs", "batch", "micro_batch", "learning_rate", "schedule", "warmup_steps", "weight_decay", "clip", "seed", "context", "lora", "checkpoint_every", "validate_every", "labels", "request_id", "devices")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    BASE_FIELD_NUMBER: _ClassVar[int]
    MODEL_ID_FIELD_NUMBER: _ClassVar[int]
    TRAIN_FIELD_NUMBER: _ClassVar[int]
    VALIDATION_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    EPOCHS_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    MICRO_BATCH_FIELD_NUMBER: _ClassVar[int]
    LEARNING_RATE_FIELD_NUMBER: _ClassVar[int]
    SCHEDULE_FIELD_NUMBER: _ClassVar[int]
    WARMUP_STEPS_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_DECAY_FIELD_NUMBER: _ClassVar[int]
    CLIP_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    LORA_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_EVERY_FIELD_NUMBER: _ClassVar[int]
    VALIDATE_EVERY_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    DEVICES_FIELD_NUMBER: _ClassVar[int]
    base: str
    model_id: str
    train: str
    validation: str
    format: ExampleFormat
    steps: int
    epochs: float
    batch: int
    micro_batch: int
    learning_rate: float
    schedule: LearningRateSchedule
    warmup_steps: int
    weight_decay: float
    clip: float
    seed: int
    context: int
    lora: LoraConfig
    checkpoint_every: int
    validate_every: int
    labels: _containers.ScalarMap[str, str]
    request_id: str
    devices: int
    def __init__(self, base: _Optional[str] = ..., model_id: _Optional[str] = ..., train: _Optional[str] = ..., validation: _Optional[str] = ..., format: _Optional[_Union[ExampleFormat, str]] = ..., steps: _Optional[int] = ..., epochs: _Optional[float] = ..., batch: _Optional[int] = ..., micro_batch: _Optional[int] = ..., learning_rate: _Optional[float] = ..., schedule: _Optional[_Union[LearningRateSchedule, str]] = ..., warmup_steps: _Optional[int] = ..., weight_decay: _Optional[float] = ..., clip: _Optional[float] = ..., seed: _Optional[int] = ..., context: _Optional[int] = ..., lora: _Optional[_Union[LoraConfig, _Mapping]] = ..., checkpoint_every: _Optional[int] = ..., validate_every: _Optional[int] = ..., labels: _Optional[_Mapping[str, str]] = ..., request_id: _Optional[str] = ..., devices: _Optional[int] = ...) -> None: ...

class FineTuned(_message.Message):
    __slots__ = ("model", "adapter", "steps", "effective_batch", "examples", "counted_tokens", "first_loss", "last_loss", "validation_loss", "curve", "devices")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    ADAPTER_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    EFFECTIVE_BATCH_FIELD_NUMBER: _ClassVar[int]
    EXAMPLES_FIELD_NUMBER: _ClassVar[int]
    COUNTED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    FIRST_LOSS_FIELD_NUMBER: _ClassVar[int]
    LAST_LOSS_FIELD_NUMBER: _ClassVar[int]
    VALIDATION_LOSS_FIELD_NUMBER: _ClassVar[int]
    CURVE_FIELD_NUMBER: _ClassVar[int]
    DEVICES_FIELD_NUMBER: _ClassVar[int]
    model: Model
    adapter: _artifacts_pb2.Artifact
    steps: int
    effective_batch: int
    examples: int
    counted_tokens: int
    first_loss: float
    last_loss: float
    validation_loss: float
    curve: _artifacts_pb2.Artifact
    devices: int
    def __init__(self, model: _Optional[_Union[Model, _Mapping]] = ..., adapter: _Optional[_Union[_artifacts_pb2.Artifact, _Mapping]] = ..., steps: _Optional[int] = ..., effective_batch: _Optional[int] = ..., examples: _Optional[int] = ..., counted_tokens: _Optional[int] = ..., first_loss: _Optional[float] = ..., last_loss: _Optional[float] = ..., validation_loss: _Optional[float] = ..., curve: _Optional[_Union[_artifacts_pb2.Artifact, _Mapping]] = ..., devices: _Optional[int] = ...) -> None: ...
