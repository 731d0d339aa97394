"""Settings of the datastore room, from ``PALIMPSEST_DATASTORE_*``."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class DatastoreSettings(BaseSettings):
    """Where corpora are, and limits of requests."""

    model_config = SettingsConfigDict(env_prefix="PALIMPSEST_DATASTORE_", extra="ignore", frozen=True)

    folder: Path | None = Field(
        default=None,
        description="Folder of the corpora, shared by servers and workers. Unset: state_dir/corpora.",
    )
    qdrant_url: str = Field(
        default="", description="Qdrant server for passage vectors. Empty: FAISS, on disk."
    )
    document_bytes: int = Field(default=64 << 20, description="Largest document, in bytes.")
    key_bytes: int = Field(
        default=16 << 30,
        description="Token keys kept for one corpus, in bytes; the least recently used are evicted.",
    )
    seal_tokens: int = Field(
        default=2 << 20,
        description="Unsealed tokens of a corpus at which BuildIndex starts by itself. 0: never.",
    )
    unsealed_tokens: int = Field(
        default=64 << 20,
        description="Unsealed tokens of a corpus at which new documents are refused until BuildIndex has run.",
    )
    segment_tokens: int = Field(default=16 << 20, description="Tokens of a full segment.")
    acknowledge_seconds: float = Field(
        default=3.0, description="Seconds that DeleteDocuments waits for watchers to acknowledge."
    )
    max_concurrent_calls: int = Field(
        default=4, description="Searches and additions run at once; further calls wait."
    )
