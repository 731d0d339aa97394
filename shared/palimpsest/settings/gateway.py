"""Settings of the gateway, from ``PALIMPSEST_GATEWAY_*``."""

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class GatewaySettings(BaseSettings):
    """Where the gateway listens, and the limits of its requests."""

    model_config = SettingsConfigDict(env_prefix="PALIMPSEST_GATEWAY_", extra="ignore", frozen=True)

    listen: str = Field(
        default="127.0.0.1:7680",
        description="host:port that the HTTP gateway listens on. Empty: the local stack starts none.",
    )
    model: str = Field(
        default="",
        description="Model of requests that name none. Empty: the only one registered.",
    )
    body_bytes: int = Field(default=32 << 20, description="Largest body of an HTTP request, in bytes.")
    file_bytes: int = Field(default=200 << 20, description="Largest file of an upload over HTTP, in bytes.")
    batch_lines: int = Field(
        default=50_000, description="Lines that the input of one batch over HTTP may have."
    )
    chat_max_tokens: int = Field(
        default=1024,
        description="Most tokens of a chat reply whose request says nothing of it; fewer where the context ends.",
    )
    prompts: int = Field(default=256, description="Prompts that one request for completions may have.")
    prompts_at_once: int = Field(
        default=16, description="Prompts of one request for completions that are generated from at once."
    )
