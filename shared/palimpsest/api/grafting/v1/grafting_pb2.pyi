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

class RolePart(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ROLE_PART_UNSPECIFIED: _ClassVar[RolePart]
    ROLE_PART_CONTENT: _ClassVar[RolePart]
    ROLE_PART_HEADER: _ClassVar[RolePart]
    ROLE_PART_FOOTER: _ClassVar[RolePart]
    ROLE_PART_WHOLE: _ClassVar[RolePart]
    ROLE_PART_LAST: _ClassVar[RolePart]

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

class SweepMode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SWEEP_MODE_UNSPECIFIED: _ClassVar[SweepMode]
    SWEEP_MODE_EXACT: _ClassVar[SweepMode]
    SWEEP_MODE_PREVIEW: _ClassVar[SweepMode]
    SWEEP_MODE_BOTH: _ClassVar[SweepMode]
CONTINUATION_UNSPECIFIED: Continuation
CONTINUATION_LAST: Continuation
CONTINUATION_BASE: Continuation
ROLE_PART_UNSPECIFIED: RolePart
ROLE_PART_CONTENT: RolePart
ROLE_PART_HEADER: RolePart
ROLE_PART_FOOTER: RolePart
ROLE_PART_WHOLE: RolePart
ROLE_PART_LAST: RolePart
GRAFT_DECODING_UNSPECIFIED: GraftDecoding
GRAFT_DECODING_LAST: GraftDecoding
GRAFT_DECODING_BASE: GraftDecoding
GRAFT_DECODING_DONOR: GraftDecoding
GRAFT_STOP_UNSPECIFIED: GraftStop
GRAFT_STOP_END: GraftStop
GRAFT_STOP_LENGTH: GraftStop
SWEEP_MODE_UNSPECIFIED: SweepMode
SWEEP_MODE_EXACT: SweepMode
SWEEP_MODE_PREVIEW: SweepMode
SWEEP_MODE_BOTH: SweepMode

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
    __slots__ = ("prompt", "target", "continuation", "contrast", "chat")
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    CONTINUATION_FIELD_NUMBER: _ClassVar[int]
    CONTRAST_FIELD_NUMBER: _ClassVar[int]
    CHAT_FIELD_NUMBER: _ClassVar[int]
    prompt: str
    target: str
    continuation: Continuation
    contrast: str
    chat: _containers.RepeatedCompositeFieldContainer[ChatTurn]
    def __init__(self, prompt: _Optional[str] = ..., target: _Optional[str] = ..., continuation: _Optional[_Union[Continuation, str]] = ..., contrast: _Optional[str] = ..., chat: _Optional[_Iterable[_Union[ChatTurn, _Mapping]]] = ...) -> None: ...

class ChatTurn(_message.Message):
    __slots__ = ("role", "content")
    ROLE_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    role: str
    content: str
    def __init__(self, role: _Optional[str] = ..., content: _Optional[str] = ...) -> None: ...

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
    __slots__ = ("spans", "indices", "everything", "complement", "roles")
    SPANS_FIELD_NUMBER: _ClassVar[int]
    INDICES_FIELD_NUMBER: _ClassVar[int]
    EVERYTHING_FIELD_NUMBER: _ClassVar[int]
    COMPLEMENT_FIELD_NUMBER: _ClassVar[int]
    ROLES_FIELD_NUMBER: _ClassVar[int]
    spans: _containers.RepeatedCompositeFieldContainer[TextSpan]
    indices: _containers.RepeatedScalarFieldContainer[int]
    everything: bool
    complement: bool
    roles: _containers.RepeatedCompositeFieldContainer[RolePositions]
    def __init__(self, spans: _Optional[_Iterable[_Union[TextSpan, _Mapping]]] = ..., indices: _Optional[_Iterable[int]] = ..., everything: bool = ..., complement: bool = ..., roles: _Optional[_Iterable[_Union[RolePositions, _Mapping]]] = ...) -> None: ...

class RolePositions(_message.Message):
    __slots__ = ("role", "message", "part")
    ROLE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    PART_FIELD_NUMBER: _ClassVar[int]
    role: str
    message: int
    part: RolePart
    def __init__(self, role: _Optional[str] = ..., message: _Optional[int] = ..., part: _Optional[_Union[RolePart, str]] = ...) -> None: ...

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
    __slots__ = ("layer", "component", "delta_norm", "relative_norm", "quantisation_norm")
    LAYER_FIELD_NUMBER: _ClassVar[int]
    COMPONENT_FIELD_NUMBER: _ClassVar[int]
    DELTA_NORM_FIELD_NUMBER: _ClassVar[int]
    RELATIVE_NORM_FIELD_NUMBER: _ClassVar[int]
    QUANTISATION_NORM_FIELD_NUMBER: _ClassVar[int]
    layer: int
    component: str
    delta_norm: float
    relative_norm: float
    quantisation_norm: float
    def __init__(self, layer: _Optional[int] = ..., component: _Optional[str] = ..., delta_norm: _Optional[float] = ..., relative_norm: _Optional[float] = ..., quantisation_norm: _Optional[float] = ...) -> None: ...

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
    __slots__ = ("pair", "prompt", "patches", "untie", "max_new_tokens", "decoding", "chat")
    PAIR_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    PATCHES_FIELD_NUMBER: _ClassVar[int]
    UNTIE_FIELD_NUMBER: _ClassVar[int]
    MAX_NEW_TOKENS_FIELD_NUMBER: _ClassVar[int]
    DECODING_FIELD_NUMBER: _ClassVar[int]
    CHAT_FIELD_NUMBER: _ClassVar[int]
    pair: ModelPair
    prompt: str
    patches: _containers.RepeatedCompositeFieldContainer[GraftPatch]
    untie: bool
    max_new_tokens: int
    decoding: GraftDecoding
    chat: _containers.RepeatedCompositeFieldContainer[ChatTurn]
    def __init__(self, pair: _Optional[_Union[ModelPair, _Mapping]] = ..., prompt: _Optional[str] = ..., patches: _Optional[_Iterable[_Union[GraftPatch, _Mapping]]] = ..., untie: bool = ..., max_new_tokens: _Optional[int] = ..., decoding: _Optional[_Union[GraftDecoding, str]] = ..., chat: _Optional[_Iterable[_Union[ChatTurn, _Mapping]]] = ...) -> None: ...

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
    __slots__ = ("positions", "window", "stride", "components", "subsets", "sources")
    POSITIONS_FIELD_NUMBER: _ClassVar[int]
    WINDOW_FIELD_NUMBER: _ClassVar[int]
    STRIDE_FIELD_NUMBER: _ClassVar[int]
    COMPONENTS_FIELD_NUMBER: _ClassVar[int]
    SUBSETS_FIELD_NUMBER: _ClassVar[int]
    SOURCES_FIELD_NUMBER: _ClassVar[int]
    positions: _containers.RepeatedCompositeFieldContainer[NamedPositions]
    window: int
    stride: int
    components: _containers.RepeatedCompositeFieldContainer[ComponentSet]
    subsets: bool
    sources: _containers.RepeatedCompositeFieldContainer[GraftSource]
    def __init__(self, positions: _Optional[_Iterable[_Union[NamedPositions, _Mapping]]] = ..., window: _Optional[int] = ..., stride: _Optional[int] = ..., components: _Optional[_Iterable[_Union[ComponentSet, _Mapping]]] = ..., subsets: bool = ..., sources: _Optional[_Iterable[_Union[GraftSource, _Mapping]]] = ...) -> None: ...

class GraftSource(_message.Message):
    __slots__ = ("source", "weight")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    source: int
    weight: float
    def __init__(self, source: _Optional[int] = ..., weight: _Optional[float] = ...) -> None: ...

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
    __slots__ = ("pair", "cases", "axes", "untie", "skip_cache", "request_id", "mode", "preview", "sufficient")
    PAIR_FIELD_NUMBER: _ClassVar[int]
    CASES_FIELD_NUMBER: _ClassVar[int]
    AXES_FIELD_NUMBER: _ClassVar[int]
    UNTIE_FIELD_NUMBER: _ClassVar[int]
    SKIP_CACHE_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    PREVIEW_FIELD_NUMBER: _ClassVar[int]
    SUFFICIENT_FIELD_NUMBER: _ClassVar[int]
    pair: ModelPair
    cases: _containers.RepeatedCompositeFieldContainer[Case]
    axes: SweepAxes
    untie: bool
    skip_cache: bool
    request_id: str
    mode: SweepMode
    preview: PreviewOptions
    sufficient: SufficientSearch
    def __init__(self, pair: _Optional[_Union[ModelPair, _Mapping]] = ..., cases: _Optional[_Iterable[_Union[Case, _Mapping]]] = ..., axes: _Optional[_Union[SweepAxes, _Mapping]] = ..., untie: bool = ..., skip_cache: bool = ..., request_id: _Optional[str] = ..., mode: _Optional[_Union[SweepMode, str]] = ..., preview: _Optional[_Union[PreviewOptions, _Mapping]] = ..., sufficient: _Optional[_Union[SufficientSearch, _Mapping]] = ...) -> None: ...

class PreviewOptions(_message.Message):
    __slots__ = ("verify_top", "verify_random", "seed", "steps", "own_layer", "drops")
    VERIFY_TOP_FIELD_NUMBER: _ClassVar[int]
    VERIFY_RANDOM_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    OWN_LAYER_FIELD_NUMBER: _ClassVar[int]
    DROPS_FIELD_NUMBER: _ClassVar[int]
    verify_top: int
    verify_random: int
    seed: int
    steps: int
    own_layer: bool
    drops: int
    def __init__(self, verify_top: _Optional[int] = ..., verify_random: _Optional[int] = ..., seed: _Optional[int] = ..., steps: _Optional[int] = ..., own_layer: bool = ..., drops: _Optional[int] = ...) -> None: ...

class SufficientSearch(_message.Message):
    __slots__ = ("threshold",)
    THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    threshold: float
    def __init__(self, threshold: _Optional[float] = ...) -> None: ...

class GraftCell(_message.Message):
    __slots__ = ("position", "layers", "components", "reading", "estimate", "strength", "source", "weight", "selection", "contrast")
    POSITION_FIELD_NUMBER: _ClassVar[int]
    LAYERS_FIELD_NUMBER: _ClassVar[int]
    COMPONENTS_FIELD_NUMBER: _ClassVar[int]
    READING_FIELD_NUMBER: _ClassVar[int]
    ESTIMATE_FIELD_NUMBER: _ClassVar[int]
    STRENGTH_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    SELECTION_FIELD_NUMBER: _ClassVar[int]
    CONTRAST_FIELD_NUMBER: _ClassVar[int]
    position: str
    layers: LayerRange
    components: _containers.RepeatedScalarFieldContainer[str]
    reading: GraftReading
    estimate: float
    strength: float
    source: str
    weight: float
    selection: str
    contrast: CellContrast
    def __init__(self, position: _Optional[str] = ..., layers: _Optional[_Union[LayerRange, _Mapping]] = ..., components: _Optional[_Iterable[str]] = ..., reading: _Optional[_Union[GraftReading, _Mapping]] = ..., estimate: _Optional[float] = ..., strength: _Optional[float] = ..., source: _Optional[str] = ..., weight: _Optional[float] = ..., selection: _Optional[str] = ..., contrast: _Optional[_Union[CellContrast, _Mapping]] = ...) -> None: ...

class CellContrast(_message.Message):
    __slots__ = ("reading", "margin")
    READING_FIELD_NUMBER: _ClassVar[int]
    MARGIN_FIELD_NUMBER: _ClassVar[int]
    reading: GraftReading
    margin: float
    def __init__(self, reading: _Optional[_Union[GraftReading, _Mapping]] = ..., margin: _Optional[float] = ...) -> None: ...

class SweptCells(_message.Message):
    __slots__ = ("case", "base", "donor", "cells", "contrast", "preview", "values", "sufficient")
    CASE_FIELD_NUMBER: _ClassVar[int]
    BASE_FIELD_NUMBER: _ClassVar[int]
    DONOR_FIELD_NUMBER: _ClassVar[int]
    CELLS_FIELD_NUMBER: _ClassVar[int]
    CONTRAST_FIELD_NUMBER: _ClassVar[int]
    PREVIEW_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    SUFFICIENT_FIELD_NUMBER: _ClassVar[int]
    case: int
    base: GraftReading
    donor: GraftReading
    cells: _containers.RepeatedCompositeFieldContainer[GraftCell]
    contrast: Contrast
    preview: bool
    values: SegmentValues
    sufficient: SufficientSet
    def __init__(self, case: _Optional[int] = ..., base: _Optional[_Union[GraftReading, _Mapping]] = ..., donor: _Optional[_Union[GraftReading, _Mapping]] = ..., cells: _Optional[_Iterable[_Union[GraftCell, _Mapping]]] = ..., contrast: _Optional[_Union[Contrast, _Mapping]] = ..., preview: bool = ..., values: _Optional[_Union[SegmentValues, _Mapping]] = ..., sufficient: _Optional[_Union[SufficientSet, _Mapping]] = ...) -> None: ...

class SegmentValues(_message.Message):
    __slots__ = ("layers", "components", "segments", "interactions")
    LAYERS_FIELD_NUMBER: _ClassVar[int]
    COMPONENTS_FIELD_NUMBER: _ClassVar[int]
    SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    INTERACTIONS_FIELD_NUMBER: _ClassVar[int]
    layers: LayerRange
    components: _containers.RepeatedScalarFieldContainer[str]
    segments: _containers.RepeatedCompositeFieldContainer[SegmentValue]
    interactions: _containers.RepeatedCompositeFieldContainer[Interaction]
    def __init__(self, layers: _Optional[_Union[LayerRange, _Mapping]] = ..., components: _Optional[_Iterable[str]] = ..., segments: _Optional[_Iterable[_Union[SegmentValue, _Mapping]]] = ..., interactions: _Optional[_Iterable[_Union[Interaction, _Mapping]]] = ...) -> None: ...

class SegmentValue(_message.Message):
    __slots__ = ("segment", "shapley", "alone", "without")
    SEGMENT_FIELD_NUMBER: _ClassVar[int]
    SHAPLEY_FIELD_NUMBER: _ClassVar[int]
    ALONE_FIELD_NUMBER: _ClassVar[int]
    WITHOUT_FIELD_NUMBER: _ClassVar[int]
    segment: str
    shapley: float
    alone: float
    without: float
    def __init__(self, segment: _Optional[str] = ..., shapley: _Optional[float] = ..., alone: _Optional[float] = ..., without: _Optional[float] = ...) -> None: ...

class Interaction(_message.Message):
    __slots__ = ("first", "second", "value")
    FIRST_FIELD_NUMBER: _ClassVar[int]
    SECOND_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    first: str
    second: str
    value: float
    def __init__(self, first: _Optional[str] = ..., second: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...

class SufficientSet(_message.Message):
    __slots__ = ("layers", "components", "threshold", "reached", "positions", "recovery", "complement", "order", "grafts", "case")
    LAYERS_FIELD_NUMBER: _ClassVar[int]
    COMPONENTS_FIELD_NUMBER: _ClassVar[int]
    THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    REACHED_FIELD_NUMBER: _ClassVar[int]
    POSITIONS_FIELD_NUMBER: _ClassVar[int]
    RECOVERY_FIELD_NUMBER: _ClassVar[int]
    COMPLEMENT_FIELD_NUMBER: _ClassVar[int]
    ORDER_FIELD_NUMBER: _ClassVar[int]
    GRAFTS_FIELD_NUMBER: _ClassVar[int]
    CASE_FIELD_NUMBER: _ClassVar[int]
    layers: LayerRange
    components: _containers.RepeatedScalarFieldContainer[str]
    threshold: float
    reached: bool
    positions: _containers.RepeatedScalarFieldContainer[str]
    recovery: float
    complement: float
    order: str
    grafts: int
    case: int
    def __init__(self, layers: _Optional[_Union[LayerRange, _Mapping]] = ..., components: _Optional[_Iterable[str]] = ..., threshold: _Optional[float] = ..., reached: bool = ..., positions: _Optional[_Iterable[str]] = ..., recovery: _Optional[float] = ..., complement: _Optional[float] = ..., order: _Optional[str] = ..., grafts: _Optional[int] = ..., case: _Optional[int] = ...) -> None: ...

class PreviewCheck(_message.Message):
    __slots__ = ("case", "cells", "top", "random", "correlation", "threshold", "random_above", "missed_at_most", "largest_error")
    CASE_FIELD_NUMBER: _ClassVar[int]
    CELLS_FIELD_NUMBER: _ClassVar[int]
    TOP_FIELD_NUMBER: _ClassVar[int]
    RANDOM_FIELD_NUMBER: _ClassVar[int]
    CORRELATION_FIELD_NUMBER: _ClassVar[int]
    THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    RANDOM_ABOVE_FIELD_NUMBER: _ClassVar[int]
    MISSED_AT_MOST_FIELD_NUMBER: _ClassVar[int]
    LARGEST_ERROR_FIELD_NUMBER: _ClassVar[int]
    case: int
    cells: int
    top: int
    random: int
    correlation: float
    threshold: float
    random_above: int
    missed_at_most: int
    largest_error: float
    def __init__(self, case: _Optional[int] = ..., cells: _Optional[int] = ..., top: _Optional[int] = ..., random: _Optional[int] = ..., correlation: _Optional[float] = ..., threshold: _Optional[float] = ..., random_above: _Optional[int] = ..., missed_at_most: _Optional[int] = ..., largest_error: _Optional[float] = ...) -> None: ...

class CellSummary(_message.Message):
    __slots__ = ("position", "layers", "components", "cases", "mean_recovery", "low", "high")
    POSITION_FIELD_NUMBER: _ClassVar[int]
    LAYERS_FIELD_NUMBER: _ClassVar[int]
    COMPONENTS_FIELD_NUMBER: _ClassVar[int]
    CASES_FIELD_NUMBER: _ClassVar[int]
    MEAN_RECOVERY_FIELD_NUMBER: _ClassVar[int]
    LOW_FIELD_NUMBER: _ClassVar[int]
    HIGH_FIELD_NUMBER: _ClassVar[int]
    position: str
    layers: LayerRange
    components: _containers.RepeatedScalarFieldContainer[str]
    cases: int
    mean_recovery: float
    low: float
    high: float
    def __init__(self, position: _Optional[str] = ..., layers: _Optional[_Union[LayerRange, _Mapping]] = ..., components: _Optional[_Iterable[str]] = ..., cases: _Optional[int] = ..., mean_recovery: _Optional[float] = ..., low: _Optional[float] = ..., high: _Optional[float] = ...) -> None: ...

class GraftSweep(_message.Message):
    __slots__ = ("table", "cells", "row_layers", "naive_row_layers", "resumed_cells", "summaries", "sufficient", "previews", "left_out", "grafted_cells")
    TABLE_FIELD_NUMBER: _ClassVar[int]
    CELLS_FIELD_NUMBER: _ClassVar[int]
    ROW_LAYERS_FIELD_NUMBER: _ClassVar[int]
    NAIVE_ROW_LAYERS_FIELD_NUMBER: _ClassVar[int]
    RESUMED_CELLS_FIELD_NUMBER: _ClassVar[int]
    SUMMARIES_FIELD_NUMBER: _ClassVar[int]
    SUFFICIENT_FIELD_NUMBER: _ClassVar[int]
    PREVIEWS_FIELD_NUMBER: _ClassVar[int]
    LEFT_OUT_FIELD_NUMBER: _ClassVar[int]
    GRAFTED_CELLS_FIELD_NUMBER: _ClassVar[int]
    table: _artifacts_pb2.Artifact
    cells: int
    row_layers: int
    naive_row_layers: int
    resumed_cells: int
    summaries: _containers.RepeatedCompositeFieldContainer[CellSummary]
    sufficient: _containers.RepeatedCompositeFieldContainer[SufficientSet]
    previews: _containers.RepeatedCompositeFieldContainer[PreviewCheck]
    left_out: int
    grafted_cells: int
    def __init__(self, table: _Optional[_Union[_artifacts_pb2.Artifact, _Mapping]] = ..., cells: _Optional[int] = ..., row_layers: _Optional[int] = ..., naive_row_layers: _Optional[int] = ..., resumed_cells: _Optional[int] = ..., summaries: _Optional[_Iterable[_Union[CellSummary, _Mapping]]] = ..., sufficient: _Optional[_Iterable[_Union[SufficientSet, _Mapping]]] = ..., previews: _Optional[_Iterable[_Union[PreviewCheck, _Mapping]]] = ..., left_out: _Optional[int] = ..., grafted_cells: _Optional[int] = ...) -> None: ...
