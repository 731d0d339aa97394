"""What is known about one artefact beside its bytes, and the sidecar that remembers it."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp

from palimpsest.api.artifacts.v1.artifacts_pb2 import Artifact

DEFAULT_MEDIA_TYPE = "application/octet-stream"


@dataclass(frozen=True)
class ArtifactInfo:
    """One artefact.

    Attributes
    ----------
    digest
        ``sha256:<64 hex digits>``.
    size_bytes
        Length.
    media_type
        Such as ``application/jsonl``.
    create_time
        When it was last stored; storing the same bytes again renews it.
    """

    digest: str
    size_bytes: int
    media_type: str
    create_time: datetime

    def message(self, owners: list[str] | None = None) -> Artifact:
        """The artefact as the contract's message."""
        created = Timestamp()
        created.FromDatetime(self.create_time)
        return Artifact(
            digest=self.digest,
            size_bytes=self.size_bytes,
            media_type=self.media_type,
            create_time=created,
            owners=owners or [],
        )

    def to_json(self) -> bytes:
        """The sidecar's content."""
        fields = {
            "version": 1,
            "digest": self.digest,
            "size_bytes": self.size_bytes,
            "media_type": self.media_type,
            "create_time": self.create_time.astimezone(UTC).isoformat(),
        }
        return json.dumps(fields, sort_keys=True).encode()

    @classmethod
    def from_json(cls, data: bytes) -> "ArtifactInfo":
        """Read a sidecar.

        Raises
        ------
        ValueError
            It is damaged.
        """
        try:
            fields = json.loads(data)
            return cls(
                digest=str(fields["digest"]),
                size_bytes=int(fields["size_bytes"]),
                media_type=str(fields["media_type"]),
                create_time=datetime.fromisoformat(fields["create_time"]),
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"damaged sidecar: {error}") from error
