"""Settings of every process, from the environment (``PALIMPSEST_*``); each has a default."""

import json
import math
import re
from pathlib import Path
from typing import Annotated, Literal

import platformdirs
from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

SECRETS = Path("/run/secrets")
"""Where containers find secrets as files: ``palimpsest_redis_url`` and the like."""
_QUEUES = {"cpu": "cpu", "model": "gpu", "train": "gpu"}


class Settings(BaseSettings):
    """What a server, a worker or the embedded stack needs to know about where it runs."""

    model_config = SettingsConfigDict(
        env_prefix="PALIMPSEST_",
        extra="ignore",
        frozen=True,
        secrets_dir=SECRETS if SECRETS.is_dir() else None,
    )

    # where things are
    state_dir: Path = Field(
        default_factory=lambda: Path(platformdirs.user_state_dir("palimpsest", appauthor=False)),
        description="Everything the embedded stack keeps: Valkey's files, artefacts, models, logs.",
    )
    redis_url: str = Field(
        default="",
        description="Redis or Valkey, such as redis://host:6379/0 or unix:///path. Empty: the embedded one.",
    )
    redis_prefix: str = Field(
        default="palimpsest:", description="Prefix of every key, so that a server can be shared."
    )
    artifact_url: str = Field(
        default="",
        description="fsspec URL of the artefact store, such as s3://bucket/prefix. Empty: in state_dir.",
    )
    artifact_options: dict[str, object] = Field(
        default_factory=dict,
        description="fsspec storage options as JSON, such as an S3 endpoint and its keys.",
    )
    artifact_max_bytes: int = Field(default=64 << 30, description="Largest artefact accepted, in bytes.")
    artifact_grace_seconds: int = Field(
        default=24 * 3600, description="Artefacts younger than this are never garbage collected, in seconds."
    )
    artifact_digest_is_capability: bool = Field(
        default=False,
        description="Let whoever knows an artefact's digest read it, not only who holds it.",
    )
    model_roots: Annotated[list[Path], NoDecode] | None = Field(
        default=None,
        description="Folders to register models from, separated by ':'. Unset: any path, loopback only.",
    )
    hub_offline: bool = Field(
        default=True, description="Never contact a model hub; 'hub:' sources must be in the local cache."
    )

    # the server
    listen: str = Field(
        default="127.0.0.1:7600", description="host:port or unix:/path the server listens on."
    )
    insecure: bool = Field(default=False, description="Allow plain text off loopback, for private networks.")
    tls_certificate: Path | None = Field(
        default=None, description="PEM certificate (chain) of the server; read again on change."
    )
    tls_key: Path | None = Field(default=None, description="PEM key of the server's certificate.")
    tls_client_ca: Path | None = Field(
        default=None,
        description="PEM authorities of client certificates. Set: every client needs a certificate.",
    )
    tokens_file: Path | None = Field(
        default=None, description="File of the accepted bearer tokens, hashed. Unset: no token is required."
    )
    service_token: str = Field(
        default="",
        repr=False,
        description="Token with the scope 'impersonate', with which jobs call rooms for the callers they work for.",
    )
    peers: str = Field(
        default="",
        description="Where rooms and jobs find the other rooms: host:port[,room=host:port ...]. Empty: this server.",
    )
    audit_file: Path | None = Field(
        default=None, description="Log of mutating calls. Unset: state_dir/audit.jsonl."
    )
    quota_requests_per_minute: int = Field(
        default=0, description="Calls that one caller may make a minute. 0: no quota."
    )
    quota_bytes_per_minute: int = Field(
        default=0, description="Bytes that one caller may send a minute. 0: no quota."
    )
    quota_queued_jobs: int = Field(
        default=0,
        description="Jobs that one caller may have waiting. 0: PALIMPSEST_CALLER_SHARE of the queue's limit.",
    )
    max_concurrent_rpcs: int = Field(
        default=256, description="Calls served at once; further ones end with RESOURCE_EXHAUSTED."
    )
    caller_share: float = Field(
        default=0.75,
        gt=0,
        le=1,
        description="Share of the calls, of the waiting jobs and of an engine's requests that one caller may have.",
    )
    reserved_rpcs: int = Field(
        default=32,
        description="Further calls that look after jobs or ask for reflection, answered by a server that is full.",
    )
    stream_idle_seconds: float = Field(
        default=120.0,
        ge=0,
        description="Seconds that a stream may wait for its caller's next message. 0: for ever.",
    )
    default_deadline: float = Field(
        default=30.0, description="Deadline that clients give unary calls by default, in seconds."
    )
    max_deadline: float = Field(
        default=120.0, description="Longest deadline that a unary call may have, in seconds."
    )
    drain_seconds: float = Field(
        default=5.0, description="Seconds that running calls may take to finish after SIGTERM."
    )
    reflection: bool = Field(default=True, description="Serve gRPC reflection.")

    # jobs
    lease_seconds: float = Field(
        default=15.0, description="A worker that sends no heartbeat for this many seconds loses its job."
    )
    job_max_attempts: int = Field(
        default=3, description="Attempts before a job whose worker dies is dead-lettered."
    )
    job_retention_seconds: int = Field(
        default=14 * 24 * 3600, description="Seconds for which finished jobs are kept."
    )
    job_queue_limit: int = Field(
        default=10_000, description="Jobs that may wait; further ones end with RESOURCE_EXHAUSTED."
    )
    checkpoint_seconds: float = Field(
        default=10.0,
        description="Seconds between checkpoints of a batch job; a dying worker loses no more than that.",
    )
    cancel_grace_seconds: float = Field(
        default=5.0, description="Seconds a cancelled job may take to stop before its process is killed."
    )
    job_queues: Annotated[dict[str, str], NoDecode] = Field(
        default=_QUEUES,
        validate_default=True,
        description="The queue of jobs by what they need, such as cpu=cpu,model=gpu,train=gpu.",
    )
    job_seconds: Annotated[dict[str, float], NoDecode] = Field(
        default_factory=dict,
        description="Longest run of jobs by kind where the kind's own limit is wrong, such as models.register=7200.",
    )
    worker_queues: str = Field(
        default="",
        description="Queues this worker serves, separated by commas. Empty: all of PALIMPSEST_JOB_QUEUES.",
    )
    worker_standby_queues: str = Field(
        default="",
        description="Queues this worker serves only while no other worker has them in PALIMPSEST_WORKER_QUEUES.",
    )
    handler_modules: str = Field(
        default="",
        description="Modules with handlers of jobs, besides the rooms' own; separated by commas.",
    )
    worker_concurrency: int = Field(
        default=1,
        description="Jobs of each queue this worker runs at once, so that no queue waits for another; 1 for each GPU.",
    )

    # inference
    device: str = Field(default="auto", description="cpu, cuda, cuda:0 ... auto: CUDA if there is a device.")
    dtype: str = Field(
        default="auto",
        description="float32, bfloat16, float16. auto: the fastest on this machine, measured at load.",
    )
    threads: int = Field(
        default=0, description="Threads for one forward pass. 0: one for each physical core."
    )
    engine_cache_bytes: int = Field(default=2 << 30, description="KV cache of one model, in bytes.")
    engine_max_running: int = Field(default=32, description="Sequences decoded in one batch.")
    engine_queue_limit: int = Field(default=128, description="Requests that may wait to enter the batch.")
    engine_background_factor: float = Field(
        default=1.1,
        ge=1,
        description="How much longer than by itself a step of interactive requests may take for background ones.",
    )
    batch_engine: Literal["decoding", "worker"] = Field(
        default="decoding",
        description="Where batches run: in the decoding room, beside its callers, or in the worker's own engine.",
    )
    engine_share_prefixes: bool = Field(
        default=False,
        description="Share cached prompt prefixes between callers, who can then tell what others have sent.",
    )
    engine_max_models: int = Field(
        default=1, description="Models held in memory; the least recently used idle one is evicted."
    )
    grafting_idle_seconds: float = Field(
        default=600.0,
        ge=0,
        description="Seconds after which a server gives up the models that nobody grafts with. 0: never.",
    )

    metrics_listen: str = Field(
        default="", description="host:port to serve Prometheus metrics on. Empty: no metrics."
    )
    log_level: str = Field(default="INFO", description="DEBUG, INFO, WARNING, ERROR.")
    log_json: bool = Field(default=False, description="Logs as JSON lines instead of text.")

    @field_validator("model_roots", mode="before")
    @classmethod
    def _split_roots(cls, value: object) -> object:
        """Read folders as PATH is written."""
        return [part for part in value.split(":") if part] if isinstance(value, str) else value

    @field_validator("job_seconds", mode="before")
    @classmethod
    def _parse_seconds(cls, value: object) -> object:
        """Read ``kind=seconds`` pairs, or JSON."""
        pairs = _pairs(value)
        for kind, seconds in pairs.items() if isinstance(pairs, dict) else ():
            if not re.fullmatch(r"[a-z0-9_]+(\.[a-z0-9_]+)+", kind) or not 0 < float(seconds) < math.inf:
                raise ValueError(f"{kind}={seconds} is not a kind of job and a positive number of seconds")
        return pairs

    @field_validator("job_queues", mode="before")
    @classmethod
    def _parse_queues(cls, value: object) -> object:
        """Read ``need=queue`` pairs, or JSON; needs left out keep their default."""
        value = _pairs(value)
        if not isinstance(value, dict) or not set(value) <= set(_QUEUES):
            raise ValueError(f"expected need=queue pairs for {', '.join(_QUEUES)}, got {value!r}")
        for queue in value.values():
            if not isinstance(queue, str) or not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", queue):
                raise ValueError(f"{queue!r} is not a queue's name: lower-case letters, digits, - and _")
        return {**_QUEUES, **value}

    def queue_for(self, needs: str) -> str:
        """Return the queue of jobs that need something: ``"cpu"``, ``"model"`` or ``"train"``.

        Raises
        ------
        ValueError
            Jobs cannot need that.
        """
        if needs not in self.job_queues:
            raise ValueError(f"a job needs one of {', '.join(self.job_queues)}, not {needs!r}")
        return self.job_queues[needs]

    @property
    def queues(self) -> tuple[str, ...]:
        """Every queue, in the order of the needs."""
        return tuple(dict.fromkeys(self.job_queues.values()))

    @property
    def own_queues(self) -> tuple[str, ...]:
        """The queues this worker serves as its own."""
        return _listed(self.worker_queues) or tuple(q for q in self.queues if q not in self.standby_queues)

    @property
    def standby_queues(self) -> tuple[str, ...]:
        """The queues this worker serves while no worker has them as its own."""
        return _listed(self.worker_standby_queues)

    def model_post_init(self, _context: object) -> None:
        """Fill what depends on state_dir."""
        if not self.artifact_url:
            object.__setattr__(self, "artifact_url", (self.state_dir.absolute() / "artifacts").as_uri())

    @property
    def models_dir(self) -> Path:
        """Where converted and downloaded models are kept."""
        return self.state_dir / "models"


def _pairs(value: object) -> object:
    """Return ``name=value`` pairs between commas, or a JSON object, as a dict; anything else as it is."""
    if isinstance(value, str) and value.lstrip().startswith("{"):
        return json.loads(value)
    if isinstance(value, str):
        pairs = [part.partition("=") for part in _listed(value)]
        return {name.strip(): given.strip() for name, _, given in pairs}
    return value


def _listed(text: str) -> tuple[str, ...]:
    """Return the parts between commas, without blanks and empty ones."""
    return tuple(filter(None, (part.strip() for part in text.split(","))))
