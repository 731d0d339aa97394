"""Settings of the codec room, from ``PALIMPSEST_CODEC_*``."""

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class CodecSettings(BaseSettings):
    """Limits of what callers bring and of loads that do not move."""

    model_config = SettingsConfigDict(env_prefix="PALIMPSEST_CODEC_", extra="ignore", frozen=True)

    chunk_bytes: int = Field(
        default=1 << 30, description="Largest chunk taken or decoded, in bytes of cache."
    )
    calls: int = Field(default=4, description="Caches encoded or decoded for callers at once; more wait.")
    idle_seconds: float = Field(
        default=60.0, description="A load whose receiver reports nothing for this long is ended."
    )
