"""Settings of the codec room, from ``PALIMPSEST_CODEC_*``."""

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class CodecSettings(BaseSettings):
    """Limits of requests, and of loads whose receiver is silent."""

    model_config = SettingsConfigDict(env_prefix="PALIMPSEST_CODEC_", extra="ignore", frozen=True)

    chunk_bytes: int = Field(
        default=1 << 30, description="Largest chunk encoded or decoded, in bytes of decoded cache."
    )
    max_concurrent_calls: int = Field(
        default=4, description="Caches encoded or decoded for callers at once; further calls wait."
    )
    idle_seconds: float = Field(
        default=60.0, description="Seconds without a report from the receiver after which a load is ended."
    )
