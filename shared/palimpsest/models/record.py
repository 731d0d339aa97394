"""The record of a registered model."""

import json
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

from google.protobuf.timestamp_pb2 import Timestamp

from palimpsest.api.models.v1.models_pb2 import Model
from palimpsest.models.geometry import ModelGeometry, read_geometry


@dataclass(frozen=True)
class ModelRecord:
    """A model that can be loaded; the fields are those of the contract's ``Model``, and the folder.

    Attributes
    ----------
    path
        Folder on this machine's disk with safetensors weights, config and tokenizer.
    relation
        Name of the contract's ``Relation``, such as ``RELATION_FINE_TUNED``.
    create_time
        Seconds since 1970, UTC.
    training
        The fields of the contract's ``Training``; empty of a model that was not trained here.
    stored_geometry
        The geometry as it was registered; None in records of older versions. Read ``geometry`` instead.
    """

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
    path: str
    parent: str = ""
    relation: str = "RELATION_UNSPECIFIED"
    create_time: float = 0.0
    labels: dict[str, str] = field(default_factory=dict)
    training: dict[str, int] = field(default_factory=dict)
    stored_geometry: ModelGeometry | None = None

    @property
    def geometry(self) -> ModelGeometry:
        """The model's sizes; read from its config if they were not stored at registration."""
        return self.stored_geometry or read_geometry(Path(self.path), self.fingerprint)

    def message(self) -> Model:
        """The record as the contract's message; the path stays here."""
        fields = asdict(self)
        del fields["path"], fields["stored_geometry"]
        training = fields.pop("training")
        created = Timestamp()
        created.FromDatetime(datetime.fromtimestamp(fields.pop("create_time"), UTC))
        return Model(create_time=created, training=training or None, **fields)

    def to_json(self) -> str:
        """The record as it is stored."""
        return json.dumps({"version": 1, **asdict(self)}, sort_keys=True)

    @classmethod
    def from_json(cls, data: str | bytes) -> "ModelRecord":
        """Read a stored record."""
        fields = cast(dict, json.loads(data))
        del fields["version"]
        geometry = fields.pop("stored_geometry", None)
        return cls(**fields, stored_geometry=ModelGeometry(**geometry) if geometry else None)
