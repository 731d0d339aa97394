"""Settings of the ``palimpsest`` command: defaults of its options."""

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class CommandSettings(BaseSettings):
    """What the command's options default to; an option on the command line wins."""

    model_config = SettingsConfigDict(env_prefix="PALIMPSEST_", extra="ignore", frozen=True)

    server: str = Field(
        default="",
        description="Server to use: host:port[,room=host:port ...]. Empty: the local stack, started if none runs.",
    )
    token: str = Field(default="", description="Bearer token for the server. Empty: none.")
    tls: bool = Field(default=False, description="Use TLS to the server.")
    model: str = Field(default="", description="Model id that commands use. Empty: the only one registered.")
