"""Text artefacts."""

from typing import TYPE_CHECKING

from palimpsest.errors import InvalidArgument, Reason

if TYPE_CHECKING:
    from palimpsest.artifacts import ArtifactStore


def read_text(artifacts: "ArtifactStore", digest: str) -> str:
    """A text artefact.

    Raises
    ------
    InvalidArgument
        INVALID_REQUEST: it is not UTF-8.
    """
    try:
        return artifacts.read_bytes(digest).decode()
    except UnicodeDecodeError as error:
        raise InvalidArgument(
            Reason.INVALID_REQUEST,
            f"{digest} is not UTF-8 text (byte {error.start}); upload the text itself.",
            metadata={"offset": error.start},
        ) from None
