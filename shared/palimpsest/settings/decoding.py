"""Settings of the decoding room, from ``PALIMPSEST_DECODING_*``."""

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class DecodingSettings(BaseSettings):
    """Where the rooms are that decoding calls."""

    model_config = SettingsConfigDict(env_prefix="PALIMPSEST_DECODING_", extra="ignore", frozen=True)

    codec_target: str = Field(
        default="", description="host:port of the server with the codec room. Empty: this server."
    )
    datastore_target: str = Field(
        default="", description="host:port of the server with the datastore room. Empty: this server."
    )
