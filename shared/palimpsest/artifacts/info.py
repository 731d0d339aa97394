"""The metadata of an artefact, and the sidecar file that stores it."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp

from palimpsest.api.artifacts.v1.artifacts_pb2 import Artifact

DEFAULT_MEDIA_TYPE = "application/octet-stream"


@dataclass(frozen=True)
class ArtifactInfo:
    """The metadata of one artefact.

    Attributes
    ----------
    digest
        ``sha256:<64 hex digits>``.
    size_bytes
        Number of bytes.
    media_type
        For example ``application/jsonl``.
    create_time
        When the artefact was last stored; storing the same bytes again renews it.
    """

    digest: str
    size_bytes: int
    media_type: str
    create_time: datetime

    def message(self, owners: list[str] | None = None) -> Artifact:
        """The artefact as a message of the contract."""
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
        """Serialise as a sidecar."""
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
        """Parse a sidecar.

        Raises
        ------
        ValueError
            The sidecar is damaged.
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
