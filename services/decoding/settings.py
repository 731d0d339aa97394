"""Settings of the decoding room."""

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class DecodingSettings(BaseSettings):
    """Where the room finds what it does not do itself."""

    model_config = SettingsConfigDict(env_prefix="PALIMPSEST_", extra="ignore", frozen=True)

    codec_target: str = Field(
        default="",
        description="host:port of the server with the codec room; empty: this server.",
    )
    datastore_target: str = Field(
        default="",
        description="host:port of the server with the datastore room; empty: this server.",
    )
