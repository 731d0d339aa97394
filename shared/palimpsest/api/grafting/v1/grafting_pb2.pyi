from google.longrunning import operations_pb2 as _operations_pb2
from palimpsest.api.artifacts.v1 import artifacts_pb2 as _artifacts_pb2
from palimpsest.api.options.v1 import options_pb2 as _options_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Continuation(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CONTINUATION_UNSPECIFIED: _ClassVar[Continuation]
    CONTINUATION_LAST: _ClassVar[Continuation]
    CONTINUATION_BASE: _ClassVar[Continuation]

class GraftDecoding(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    GRAFT_DECODING_UNSPECIFIED: _ClassVar[GraftDecoding]
    GRAFT_DECODING_LAST: _ClassVar[GraftDecoding]
    GRAFT_DECODING_BASE: _ClassVar[GraftDecoding]
    GRAFT_DECODING_DONOR: _ClassVar[GraftDecoding]

class GraftStop(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    GRAFT_STOP_UNSPECIFIED: _ClassVar[GraftStop]
    GRAFT_STOP_END: _ClassVar[GraftStop]
    GRAFT_STOP_LENGTH: _ClassVar[GraftStop]
CONTINUATION_UNSPECIFIED: Continuation
CONTINUATION_LAST: Continuation
CONTINUATION_BASE: Continuation
GRAFT_DECODING_UNSPECIFIED: GraftDecoding
GRAFT_DECODING_LAST: GraftDecoding
GRAFT_DECODING_BASE: GraftDecoding
GRAFT_DECODING_DONOR: GraftDecoding
GRAFT_STOP_UNSPECIFIED: GraftStop
GRAFT_STOP_END: GraftStop
GRAFT_STOP_LENGTH: GraftStop

class ModelPair(_message.Message):
    __slots__ = ("base", "donor", "others")
    BASE_FIELD_NUMBER: _ClassVar[int]
    DONOR_FIELD_NUMBER: _ClassVar[int]
    OTHERS_FIELD_NUMBER: _ClassVar[int]
    base: str
    donor: str
    others: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, base: _Optional[str] = ..., donor: _Optional[str] = ..., others: _Optional[_Iterable[str]] = ...) -> None: ...

class Case(_message.Message):
    __slots__ = ("prompt", "target", "continuation")
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    CONTINUATION_FIELD_NUMBER: _ClassVar[int]
    prompt: str
    target: str
    continuation: Continuation
    def __init__(self, prompt: _Optional[str] = ..., target: _Optional[str] = ..., continuation: _Optional[_Union[Continuation, str]] = ...) -> None: ...

class TextSpan(_message.Message):
    __slots__ = ("text", "occurrence", "first", "stop")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    OCCURRENCE_FIELD_NUMBER: _ClassVar[int]
    FIRST_FIELD_NUMBER: _ClassVar[int]
    STOP_FIELD_NUMBER: _ClassVar[int]
    text: str
    occurrence: int
    first: int
    stop: int
    def __init__(self, text: _Optional[str] = ..., occurrence: _Optional[int] = ..., first: _Optional[int] = ..., stop: _Optional[int] = ...) -> None: ...

class Positions(_message.Message):
    __slots__ = ("spans", "indices", "everything", "complement")
    SPANS_FIELD_NUMBER: _ClassVar[int]
    INDICES_FIELD_NUMBER: _ClassVar[int]
    EVERYTHING_FIELD_NUMBER: _ClassVar[int]
    COMPLEMENT_FIELD_NUMBER: _ClassVar[int]
    spans: _containers.RepeatedCompositeFieldContainer[TextSpan]
    indices: _containers.RepeatedScalarFieldContainer[int]
    everything: bool
    complement: bool
    def __init__(self, spans: _Optional[_Iterable[_Union[TextSpan, _Mapping]]] = ..., indices: _Optional[_Iterable[int]] = ..., everything: bool = ..., complement: bool = ...) -> None: ...

class LayerRange(_message.Message):
    __slots__ = ("first", "stop")
    FIRST_FIELD_NUMBER: _ClassVar[int]
    STOP_FIELD_NUMBER: _ClassVar[int]
    first: int
    stop: int
    def __init__(self, first: _Optional[int] = ..., stop: _Optional[int] = ...) -> None: ...

class GraftPatch(_message.Message):
    __slots__ = ("positions", "layers", "components", "restore", "source", "weight")
    POSITIONS_FIELD_NUMBER: _ClassVar[int]
    LAYERS_FIELD_NUMBER: _ClassVar[int]
    COMPONENTS_FIELD_NUMBER: _ClassVar[int]
    RESTORE_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    positions: Positions
    layers: LayerRange
    components: _containers.RepeatedScalarFieldContainer[str]
    restore: bool
    source: int
    weight: float
    def __init__(self, positions: _Optional[_Union[Positions, _Mapping]] = ..., layers: _Optional[_Union[LayerRange, _Mapping]] = ..., components: _Optional[_Iterable[str]] = ..., restore: bool = ..., source: _Optional[int] = ..., weight: _Optional[float] = ...) -> None: ...

class CheckPairRequest(_message.Message):
    __slots__ = ("pair", "prompt")
    PAIR_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    pair: ModelPair
    prompt: str
    def __init__(self, pair: _Optional[_Union[ModelPair, _Mapping]] = ..., prompt: _Optional[str] = ...) -> None: ...

class PairCheck(_message.Message):
    __slots__ = ("compatible", "differences", "reason", "architecture", "layers", "tied", "components", "changes", "tokens")
    COMPATIBLE_FIELD_NUMBER: _ClassVar[int]
    DIFFERENCES_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ARCHITECTURE_FIELD_NUMBER: _ClassVar[int]
    LAYERS_FIELD_NUMBER: _ClassVar[int]
    TIED_FIELD_NUMBER: _ClassVar[int]
    COMPONENTS_FIELD_NUMBER: _ClassVar[int]
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    compatible: bool
    differences: _containers.RepeatedScalarFieldContainer[str]
    reason: str
    architecture: str
    layers: int
    tied: bool
    components: _containers.RepeatedScalarFieldContainer[str]
    changes: _containers.RepeatedCompositeFieldContainer[ComponentChange]
    tokens: _containers.RepeatedCompositeFieldContainer[TokenDivergence]
    def __init__(self, compatible: bool = ..., differences: _Optional[_Iterable[str]] = ..., reason: _Optional[str] = ..., architecture: _Optional[str] = ..., layers: _Optional[int] = ..., tied: bool = ..., components: _Optional[_Iterable[str]] = ..., changes: _Optional[_Iterable[_Union[ComponentChange, _Mapping]]] = ..., tokens: _Optional[_Iterable[_Union[TokenDivergence, _Mapping]]] = ...) -> None: ...

class ComponentChange(_message.Message):
    __slots__ = ("layer", "component", "delta_norm", "relative_norm")
    LAYER_FIELD_NUMBER: _ClassVar[int]
    COMPONENT_FIELD_NUMBER: _ClassVar[int]
    DELTA_NORM_FIELD_NUMBER: _ClassVar[int]
    RELATIVE_NORM_FIELD_NUMBER: _ClassVar[int]
    layer: int
    component: str
    delta_norm: float
    relative_norm: float
    def __init__(self, layer: _Optional[int] = ..., component: _Optional[str] = ..., delta_norm: _Optional[float] = ..., relative_norm: _Optional[float] = ...) -> None: ...

class TokenDivergence(_message.Message):
    __slots__ = ("token", "kl")
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    KL_FIELD_NUMBER: _ClassVar[int]
    token: str
    kl: float
    def __init__(self, token: _Optional[str] = ..., kl: _Optional[float] = ...) -> None: ...

class GraftRequest(_message.Message):
    __slots__ = ("pair", "case", "patches", "untie", "contrast")
    PAIR_FIELD_NUMBER: _ClassVar[int]
    CASE_FIELD_NUMBER: _ClassVar[int]
    PATCHES_FIELD_NUMBER: _ClassVar[int]
    UNTIE_FIELD_NUMBER: _ClassVar[int]
    CONTRAST_FIELD_NUMBER: _ClassVar[int]
    pair: ModelPair
    case: Case
    patches: _containers.RepeatedCompositeFieldContainer[GraftPatch]
    untie: bool
    contrast: str
    def __init__(self, pair: _Optional[_Union[ModelPair, _Mapping]] = ..., case: _Optional[_Union[Case, _Mapping]] = ..., patches: _Optional[_Iterable[_Union[GraftPatch, _Mapping]]] = ..., untie: bool = ..., contrast: _Optional[str] = ...) -> None: ...

class GraftResponse(_message.Message):
    __slots__ = ("reading", "base", "donor", "tokens", "patches", "target_tokens", "row_layers", "naive_row_layers", "contrast")
    READING_FIELD_NUMBER: _ClassVar[int]
    BASE_FIELD_NUMBER: _ClassVar[int]
    DONOR_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    PATCHES_FIELD_NUMBER: _ClassVar[int]
    TARGET_TOKENS_FIELD_NUMBER: _ClassVar[int]
    ROW_LAYERS_FIELD_NUMBER: _ClassVar[int]
    NAIVE_ROW_LAYERS_FIELD_NUMBER: _ClassVar[int]
    CONTRAST_FIELD_NUMBER: _ClassVar[int]
    reading: GraftReading
    base: GraftReading
    donor: GraftReading
    tokens: _containers.RepeatedScalarFieldContainer[str]
    patches: _containers.RepeatedScalarFieldContainer[int]
    target_tokens: _containers.RepeatedScalarFieldContainer[str]
    row_layers: int
    naive_row_layers: int
    contrast: Contrast
    def __init__(self, reading: _Optional[_Union[GraftReading, _Mapping]] = ..., base: _Optional[_Union[GraftReading, _Mapping]] = ..., donor: _Optional[_Union[GraftReading, _Mapping]] = ..., tokens: _Optional[_Iterable[str]] = ..., patches: _Optional[_Iterable[int]] = ..., target_tokens: _Optional[_Iterable[str]] = ..., row_layers: _Optional[int] = ..., naive_row_layers: _Optional[int] = ..., contrast: _Optional[_Union[Contrast, _Mapping]] = ...) -> None: ...

class Contrast(_message.Message):
    __slots__ = ("reading", "base", "donor", "margin", "base_margin", "donor_margin")
    READING_FIELD_NUMBER: _ClassVar[int]
    BASE_FIELD_NUMBER: _ClassVar[int]
    DONOR_FIELD_NUMBER: _ClassVar[int]
    MARGIN_FIELD_NUMBER: _ClassVar[int]
    BASE_MARGIN_FIELD_NUMBER: _ClassVar[int]
    DONOR_MARGIN_FIELD_NUMBER: _ClassVar[int]
    reading: GraftReading
    base: GraftReading
    donor: GraftReading
    margin: float
    base_margin: float
    donor_margin: float
    def __init__(self, reading: _Optional[_Union[GraftReading, _Mapping]] = ..., base: _Optional[_Union[GraftReading, _Mapping]] = ..., donor: _Optional[_Union[GraftReading, _Mapping]] = ..., margin: _Optional[float] = ..., base_margin: _Optional[float] = ..., donor_margin: _Optional[float] = ...) -> None: ...

class GenerateGraftedRequest(_message.Message):
    __slots__ = ("pair", "prompt", "patches", "untie", "max_new_tokens", "decoding")
    PAIR_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    PATCHES_FIELD_NUMBER: _ClassVar[int]
    UNTIE_FIELD_NUMBER: _ClassVar[int]
    MAX_NEW_TOKENS_FIELD_NUMBER: _ClassVar[int]
    DECODING_FIELD_NUMBER: _ClassVar[int]
    pair: ModelPair
    prompt: str
    patches: _containers.RepeatedCompositeFieldContainer[GraftPatch]
    untie: bool
    max_new_tokens: int
    decoding: GraftDecoding
    def __init__(self, pair: _Optional[_Union[ModelPair, _Mapping]] = ..., prompt: _Optional[str] = ..., patches: _Optional[_Iterable[_Union[GraftPatch, _Mapping]]] = ..., untie: bool = ..., max_new_tokens: _Optional[int] = ..., decoding: _Optional[_Union[GraftDecoding, str]] = ...) -> None: ...

class GeneratedToken(_message.Message):
    __slots__ = ("token", "text", "logprob", "stop")
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    LOGPROB_FIELD_NUMBER: _ClassVar[int]
    STOP_FIELD_NUMBER: _ClassVar[int]
    token: int
    text: str
    logprob: float
    stop: GraftStop
    def __init__(self, token: _Optional[int] = ..., text: _Optional[str] = ..., logprob: _Optional[float] = ..., stop: _Optional[_Union[GraftStop, str]] = ...) -> None: ...

class GraftPlan(_message.Message):
    __slots__ = ("cells", "row_layers", "naive_row_layers", "batches", "weight_bytes", "batch_bytes")
    CELLS_FIELD_NUMBER: _ClassVar[int]
    ROW_LAYERS_FIELD_NUMBER: _ClassVar[int]
    NAIVE_ROW_LAYERS_FIELD_NUMBER: _ClassVar[int]
    BATCHES_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_BYTES_FIELD_NUMBER: _ClassVar[int]
    BATCH_BYTES_FIELD_NUMBER: _ClassVar[int]
    cells: int
    row_layers: int
    naive_row_layers: int
    batches: int
    weight_bytes: int
    batch_bytes: int
    def __init__(self, cells: _Optional[int] = ..., row_layers: _Optional[int] = ..., naive_row_layers: _Optional[int] = ..., batches: _Optional[int] = ..., weight_bytes: _Optional[int] = ..., batch_bytes: _Optional[int] = ...) -> None: ...

class GraftReading(_message.Message):
    __slots__ = ("logprob", "probability", "rank", "ties", "token_logprobs", "top", "top_probability", "recovery", "kl_base", "kl_donor")
    LOGPROB_FIELD_NUMBER: _ClassVar[int]
    PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    RANK_FIELD_NUMBER: _ClassVar[int]
    TIES_FIELD_NUMBER: _ClassVar[int]
    TOKEN_LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    TOP_FIELD_NUMBER: _ClassVar[int]
    TOP_PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    RECOVERY_FIELD_NUMBER: _ClassVar[int]
    KL_BASE_FIELD_NUMBER: _ClassVar[int]
    KL_DONOR_FIELD_NUMBER: _ClassVar[int]
    logprob: float
    probability: float
    rank: int
    ties: int
    token_logprobs: _containers.RepeatedScalarFieldContainer[float]
    top: str
    top_probability: float
    recovery: float
    kl_base: float
    kl_donor: float
    def __init__(self, logprob: _Optional[float] = ..., probability: _Optional[float] = ..., rank: _Optional[int] = ..., ties: _Optional[int] = ..., token_logprobs: _Optional[_Iterable[float]] = ..., top: _Optional[str] = ..., top_probability: _Optional[float] = ..., recovery: _Optional[float] = ..., kl_base: _Optional[float] = ..., kl_donor: _Optional[float] = ...) -> None: ...

class SweepAxes(_message.Message):
    __slots__ = ("positions", "window", "stride", "components")
    POSITIONS_FIELD_NUMBER: _ClassVar[int]
    WINDOW_FIELD_NUMBER: _ClassVar[int]
    STRIDE_FIELD_NUMBER: _ClassVar[int]
    COMPONENTS_FIELD_NUMBER: _ClassVar[int]
    positions: _containers.RepeatedCompositeFieldContainer[NamedPositions]
    window: int
    stride: int
    components: _containers.RepeatedCompositeFieldContainer[ComponentSet]
    def __init__(self, positions: _Optional[_Iterable[_Union[NamedPositions, _Mapping]]] = ..., window: _Optional[int] = ..., stride: _Optional[int] = ..., components: _Optional[_Iterable[_Union[ComponentSet, _Mapping]]] = ...) -> None: ...

class NamedPositions(_message.Message):
    __slots__ = ("name", "positions")
    NAME_FIELD_NUMBER: _ClassVar[int]
    POSITIONS_FIELD_NUMBER: _ClassVar[int]
    name: str
    positions: Positions
    def __init__(self, name: _Optional[str] = ..., positions: _Optional[_Union[Positions, _Mapping]] = ...) -> None: ...

class ComponentSet(_message.Message):
    __slots__ = ("components",)
    COMPONENTS_FIELD_NUMBER: _ClassVar[int]
    components: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, components: _Optional[_Iterable[str]] = ...) -> None: ...

class SweepGraftsRequest(_message.Message):
    __slots__ = ("pair", "cases", "axes", "untie", "skip_cache", "request_id")
    PAIR_FIELD_NUMBER: _ClassVar[int]
    CASES_FIELD_NUMBER: _ClassVar[int]
    AXES_FIELD_NUMBER: _ClassVar[int]
    UNTIE_FIELD_NUMBER: _ClassVar[int]
    SKIP_CACHE_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    pair: ModelPair
    cases: _containers.RepeatedCompositeFieldContainer[Case]
    axes: SweepAxes
    untie: bool
    skip_cache: bool
    request_id: str
    def __init__(self, pair: _Optional[_Union[ModelPair, _Mapping]] = ..., cases: _Optional[_Iterable[_Union[Case, _Mapping]]] = ..., axes: _Optional[_Union[SweepAxes, _Mapping]] = ..., untie: bool = ..., skip_cache: bool = ..., request_id: _Optional[str] = ...) -> None: ...

class GraftCell(_message.Message):
    __slots__ = ("position", "layers", "components", "reading")
    POSITION_FIELD_NUMBER: _ClassVar[int]
    LAYERS_FIELD_NUMBER: _ClassVar[int]
    COMPONENTS_FIELD_NUMBER: _ClassVar[int]
    READING_FIELD_NUMBER: _ClassVar[int]
    position: str
    layers: LayerRange
    components: _containers.RepeatedScalarFieldContainer[str]
    reading: GraftReading
    def __init__(self, position: _Optional[str] = ..., layers: _Optional[_Union[LayerRange, _Mapping]] = ..., components: _Optional[_Iterable[str]] = ..., reading: _Optional[_Union[GraftReading, _Mapping]] = ...) -> None: ...

class SweptCells(_message.Message):
    __slots__ = ("case", "base", "donor", "cells")
    CASE_FIELD_NUMBER: _ClassVar[int]
    BASE_FIELD_NUMBER: _ClassVar[int]
    DONOR_FIELD_NUMBER: _ClassVar[int]
    CELLS_FIELD_NUMBER: _ClassVar[int]
    case: int
    base: GraftReading
    donor: GraftReading
    cells: _containers.RepeatedCompositeFieldContainer[GraftCell]
    def __init__(self, case: _Optional[int] = ..., base: _Optional[_Union[GraftReading, _Mapping]] = ..., donor: _Optional[_Union[GraftReading, _Mapping]] = ..., cells: _Optional[_Iterable[_Union[GraftCell, _Mapping]]] = ...) -> None: ...

class GraftSweep(_message.Message):
    __slots__ = ("table", "cells", "row_layers", "naive_row_layers", "resumed_cells")
    TABLE_FIELD_NUMBER: _ClassVar[int]
    CELLS_FIELD_NUMBER: _ClassVar[int]
    ROW_LAYERS_FIELD_NUMBER: _ClassVar[int]
    NAIVE_ROW_LAYERS_FIELD_NUMBER: _ClassVar[int]
    RESUMED_CELLS_FIELD_NUMBER: _ClassVar[int]
    table: _artifacts_pb2.Artifact
    cells: int
    row_layers: int
    naive_row_layers: int
    resumed_cells: int
    def __init__(self, table: _Optional[_Union[_artifacts_pb2.Artifact, _Mapping]] = ..., cells: _Optional[int] = ..., row_layers: _Optional[int] = ..., naive_row_layers: _Optional[int] = ..., resumed_cells: _Optional[int] = ...) -> None: ...
