"""Errors: one tree for servers, workers and clients, and one catalogue of reasons.

::

    PalimpsestError
    ├── InvalidArgument      the request can never succeed as it is; see .violations
    ├── NotFound             the named thing does not exist
    ├── AlreadyExists        the name is taken by something else
    ├── FailedPrecondition   the request is fine, the state of the system is not
    ├── OutOfRange           a position past what exists; metadata says where to go on
    ├── Aborted              lost a race; read again and retry
    ├── ResourceExhausted    a queue, quota or store is full; retry after .retry_after seconds
    ├── Unauthenticated      no token, or not a valid one
    ├── PermissionDenied     the token does not reach this far
    ├── Cancelled            the caller or a cancel request ended the work
    ├── DeadlineExceeded     it took longer than the caller allowed
    ├── Unavailable          the server or something behind it is away; safe to retry
    ├── Unimplemented        this server does not have the method
    ├── DataLoss             stored bytes are damaged
    └── Internal             a bug in the server

Domain code raises these; the server's interceptor turns them into ``google.rpc.Status`` with
``ErrorInfo{reason, domain, metadata}``; the client turns that back into the same classes. This module imports
nothing but the standard library, so that every layer may use it.
"""

from collections.abc import Mapping, Sequence
from enum import IntEnum, StrEnum
from typing import ClassVar, NamedTuple

DOMAIN = "palimpsest"
"""``ErrorInfo.domain`` of every error this project raises."""


class Code(IntEnum):
    """The gRPC status codes in use, by number, without importing grpc."""

    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class Reason(StrEnum):
    """The catalogue: every ``ErrorInfo.reason``, stable, one line each on what it means.

    Grouped by who raises it. Add here before raising; a test keeps the code and this list in step.
    """

    # any request
    INVALID_REQUEST = "INVALID_REQUEST"  # a field is missing or out of its limits; see the violations
    MALFORMED_MESSAGE = "MALFORMED_MESSAGE"  # the bytes are not the message the method takes
    REQUEST_ID_REUSED = "REQUEST_ID_REUSED"  # the request_id was used before with another request
    DEADLINE_TOO_LONG = "DEADLINE_TOO_LONG"  # the deadline is beyond what the method allows
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
    TOO_MANY_REQUESTS = "TOO_MANY_REQUESTS"  # the server is at its limit of concurrent calls
    QUOTA_EXCEEDED = "QUOTA_EXCEEDED"  # this caller's own allowance is used up
    SHUTTING_DOWN = "SHUTTING_DOWN"  # the server is draining; another will answer
    TOKEN_MISSING = "TOKEN_MISSING"
    TOKEN_INVALID = "TOKEN_INVALID"
    SCOPE_MISSING = "SCOPE_MISSING"  # the token is good but lacks the method's scope
    LISTENER_INSECURE = "LISTENER_INSECURE"  # plain text where other machines can reach it
    TLS_FILES = "TLS_FILES"  # a certificate or key file is missing or unusable
    METRICS_ADDRESS = "METRICS_ADDRESS"  # the address for /metrics cannot be used
    PAGE_TOKEN_INVALID = "PAGE_TOKEN_INVALID"
    BUG = "BUG"  # an unexpected exception; the server's log has it under the request id
    CANCELLED = "CANCELLED"
    UNIMPLEMENTED = "UNIMPLEMENTED"  # the server has no such method
    SERVER_UNREACHABLE = "SERVER_UNREACHABLE"  # raised by the client: nothing answers at the address
    # the embedded stack
    STACK_RUNNING = "STACK_RUNNING"  # another stack holds the state directory, or it is not ours to stop
    STACK_NOT_READY = "STACK_NOT_READY"  # a process of the stack did not start or stop; see its log
    SERVICES_MISSING = "SERVICES_MISSING"  # only the client is installed here
    ADDRESS_IN_USE = "ADDRESS_IN_USE"
    # jobs
    JOB_NOT_FOUND = "JOB_NOT_FOUND"
    JOB_NOT_FINISHED = "JOB_NOT_FINISHED"  # only a finished job can be deleted
    JOB_NOT_RETRYABLE = "JOB_NOT_RETRYABLE"  # only FAILED and CANCELLED jobs are retried
    JOB_CANCELLED = "JOB_CANCELLED"
    JOB_KIND_UNKNOWN = "JOB_KIND_UNKNOWN"  # this worker has no code for the job
    JOB_QUEUE_FULL = "JOB_QUEUE_FULL"
    JOB_RECORD_NEWER = "JOB_RECORD_NEWER"  # a newer version wrote the record; ask an upgraded server
    JOB_TOO_LARGE = "JOB_TOO_LARGE"  # the request does not fit a job record; send an artefact
    ATTEMPTS_EXHAUSTED = "ATTEMPTS_EXHAUSTED"  # the worker died on every attempt; dead-lettered
    EXECUTION_TIMEOUT = "EXECUTION_TIMEOUT"
    JOB_STORE_UNAVAILABLE = "JOB_STORE_UNAVAILABLE"  # Redis/Valkey does not answer
    JOB_STORE_FULL = "JOB_STORE_FULL"  # Redis/Valkey is at maxmemory
    # artefacts
    ARTIFACT_NOT_FOUND = "ARTIFACT_NOT_FOUND"
    ARTIFACT_IN_USE = "ARTIFACT_IN_USE"
    ARTIFACT_CORRUPT = "ARTIFACT_CORRUPT"  # the stored bytes no longer have their digest
    ARTIFACT_TOO_LARGE = "ARTIFACT_TOO_LARGE"
    DIGEST_INVALID = "DIGEST_INVALID"  # not sha256:<64 hex digits>
    DIGEST_MISMATCH = "DIGEST_MISMATCH"  # the uploaded bytes do not have the announced digest
    CHECKSUM_MISMATCH = "CHECKSUM_MISMATCH"  # a chunk was damaged on the way
    ARTIFACT_READ_FAILED = "ARTIFACT_READ_FAILED"  # the bytes are good but came garbled; read again
    OFFSET_PAST_END = "OFFSET_PAST_END"  # metadata["size_bytes"] is where the artefact ends
    UPLOAD_NOT_FOUND = "UPLOAD_NOT_FOUND"
    UPLOAD_BUSY = "UPLOAD_BUSY"  # another stream is writing this upload
    UPLOAD_OFFSET = "UPLOAD_OFFSET"  # metadata["committed_size"] says where to go on
    UPLOAD_REUSED = "UPLOAD_REUSED"  # the upload was begun with another digest, size or media type
    UPLOAD_TOO_LONG = "UPLOAD_TOO_LONG"  # more bytes were sent than announced
    UPLOAD_ORDER = "UPLOAD_ORDER"  # open first, then chunks, then finish
    STORE_FULL = "STORE_FULL"
    # models
    MODEL_NOT_FOUND = "MODEL_NOT_FOUND"
    MODEL_EXISTS = "MODEL_EXISTS"  # the id names a model with other content
    MODEL_HAS_CHILDREN = "MODEL_HAS_CHILDREN"
    MODEL_SOURCE_NOT_FOUND = "MODEL_SOURCE_NOT_FOUND"
    MODEL_SOURCE_FORBIDDEN = "MODEL_SOURCE_FORBIDDEN"  # a path outside the server's model roots
    MODEL_PICKLED = "MODEL_PICKLED"  # weights in a format that can run code
    MODEL_INVALID = "MODEL_INVALID"  # no config, a damaged file, no causal LM
    MODEL_CHANGED = "MODEL_CHANGED"  # the files no longer have the registered fingerprint
    HUB_UNAVAILABLE = "HUB_UNAVAILABLE"
    # decoding
    PROMPT_EMPTY = "PROMPT_EMPTY"
    PROMPT_TOO_LONG = "PROMPT_TOO_LONG"  # metadata gives prompt_tokens, max_tokens and context_length
    TOKEN_ID_OUT_OF_RANGE = "TOKEN_ID_OUT_OF_RANGE"
    TOP_K_TOO_LARGE = "TOP_K_TOO_LARGE"  # larger than the vocabulary
    STOP_EMPTY = "STOP_EMPTY"
    NO_CHAT_TEMPLATE = "NO_CHAT_TEMPLATE"
    CHAT_INVALID = "CHAT_INVALID"  # the model's template refuses these messages
    ENGINE_QUEUE_FULL = "ENGINE_QUEUE_FULL"
    ENGINE_MEMORY_FULL = "ENGINE_MEMORY_FULL"  # the request alone, or with what waits, exceeds cache memory
    REQUEST_FAILED = "REQUEST_FAILED"  # an unexpected error of one request; the engine goes on
    ENGINE_FAILED = "ENGINE_FAILED"  # the engine stopped; the process restarts
    BATCH_EMPTY = "BATCH_EMPTY"  # the JSONL artefact has no line
    BATCH_LINE_INVALID = "BATCH_LINE_INVALID"  # reported inside the result, for that line only
    # keys and values
    KV_SHAPE = "KV_SHAPE"  # keys and values of the wrong or different shapes, or empty
    KV_DTYPE = "KV_DTYPE"  # an element type the codec does not carry
    KV_RANGE = "KV_RANGE"  # tokens or stretches that do not exist or do not join
    KV_LAYER_UNSUPPORTED = "KV_LAYER_UNSUPPORTED"  # a layer that keeps a window or a state
    KV_ROTARY = "KV_ROTARY"  # a rotary embedding that cannot be
    KV_NOT_FINITE = "KV_NOT_FINITE"  # infinities or NaN, which only the lossless level carries
    KV_LEVEL_UNKNOWN = "KV_LEVEL_UNKNOWN"
    KV_CALIBRATION = "KV_CALIBRATION"  # too few or unlike caches to calibrate from
    KV_PROFILE_INVALID = (
        "KV_PROFILE_INVALID"  # the bytes are no calibration profile, or one that cannot code this
    )
    KV_PROFILE_MISSING = "KV_PROFILE_MISSING"  # metadata["profile"] is the one needed
    KV_PROFILE_MISMATCH = "KV_PROFILE_MISMATCH"  # coded with, or made for, something else
    KV_IDENTITY_MISMATCH = "KV_IDENTITY_MISMATCH"  # another model, tokenizer or prefix; metadata says which
    KV_FORMAT_UNKNOWN = "KV_FORMAT_UNKNOWN"  # not a chunk, or one of a newer format
    KV_DAMAGED = "KV_DAMAGED"  # a chunk's bytes are not those written; metadata["offset"] says where
    KV_TOO_LARGE = "KV_TOO_LARGE"  # a chunk would decode to more than is allowed
    CONTEXT_NOT_FOUND = "CONTEXT_NOT_FOUND"
    CONTEXT_EXISTS = "CONTEXT_EXISTS"  # the name is taken by other tokens, another model or coding
    LOAD_ABANDONED = "LOAD_ABANDONED"  # the receiver ended its side, or reported nothing for too long
    KV_PLAN_INVALID = (
        "KV_PLAN_INVALID"  # a load that cannot be planned: no chunks, times or sizes that cannot be
    )
    # quoting
    DRAFT_SETTINGS_INVALID = (
        "DRAFT_SETTINGS_INVALID"  # k, strategy, alpha and the like, out of range or together
    )
    CANDIDATES_INVALID = "CANDIDATES_INVALID"  # a candidate block that is damaged, too large or inconsistent
    KEY_SITE_UNKNOWN = "KEY_SITE_UNKNOWN"  # the model's last MLP is not where any known kind of model has it
    CALIBRATION_EMPTY = "CALIBRATION_EMPTY"  # too few sampled positions to calibrate from
    # the datastore
    CORPUS_NOT_FOUND = "CORPUS_NOT_FOUND"
    CORPUS_EXISTS = "CORPUS_EXISTS"  # the id names a corpus of another model, encoder or cut
    CORPUS_DAMAGED = "CORPUS_DAMAGED"  # stored bytes of a corpus are not those written
    CORPUS_BUSY = "CORPUS_BUSY"  # another process has kept the corpus's lock for too long
    CORPUS_FENCED = "CORPUS_FENCED"  # a later job has taken the corpus over; start again
    CORPUS_MODEL_MISMATCH = "CORPUS_MODEL_MISMATCH"  # made for another model, tokenizer or encoder
    CORPUS_NOT_BUILT = "CORPUS_NOT_BUILT"  # nothing to search by meaning yet; run BuildIndex
    CORPUS_FULL = "CORPUS_FULL"  # too much waits for BuildIndex
    CORPUS_EPOCH = "CORPUS_EPOCH"  # the corpus has not come to the min_epoch asked for
    DOCUMENT_NOT_FOUND = "DOCUMENT_NOT_FOUND"
    DOCUMENT_ENCODING = "DOCUMENT_ENCODING"  # metadata["offset"] is the first bad byte
    DOCUMENT_ROUND_TRIP = "DOCUMENT_ROUND_TRIP"  # the tokenizer does not give the bytes back
    DOCUMENT_EMPTY = "DOCUMENT_EMPTY"
    DOCUMENT_TOO_LARGE = "DOCUMENT_TOO_LARGE"
    WATCH_BROKEN = "WATCH_BROKEN"  # a deletion was not acknowledged in time; quote nothing, watch again
    DATASTORE_LOST = "DATASTORE_LOST"  # the datastore room went away while its corpora were being quoted
    DOCUMENT_ORDER = "DOCUMENT_ORDER"  # begin, then chunks, then end; one document after another
    DOCUMENT_SIZE = "DOCUMENT_SIZE"  # more or fewer bytes, or others, than begin announced
    TOKENIZER_UNSUPPORTED = "TOKENIZER_UNSUPPORTED"  # bytes cannot be told from its ids
    ENCODER_UNKNOWN = "ENCODER_UNKNOWN"
    ENCODER_MISSING = "ENCODER_MISSING"  # the encoder's package is not installed
    KEYS_INVALID = "KEYS_INVALID"  # keys of the wrong shape, or not finite
    PURGE_INCOMPLETE = "PURGE_INCOMPLETE"  # bytes of a deleted document are still there; metadata says where
    RANGE_INVALID = "RANGE_INVALID"  # a byte range that is not within the document
    # n-gram stores
    NGRAMS_FORMAT_UNKNOWN = "NGRAMS_FORMAT_UNKNOWN"  # no store, or one of another version
    NGRAMS_DAMAGED = "NGRAMS_DAMAGED"  # a store's bytes are not those written
    NGRAMS_TOKENIZER_MISMATCH = "NGRAMS_TOKENIZER_MISMATCH"  # the store's ids are of another tokenizer
    NGRAMS_EMPTY = "NGRAMS_EMPTY"  # there is no text to count n-grams in
    NGRAMS_LINE_INVALID = "NGRAMS_LINE_INVALID"  # a line of a JSONL is no object with a "text"
    NGRAMS_STALE = "NGRAMS_STALE"  # documents were deleted each time the store was about to be finished
    NGRAM_STORE_NOT_FOUND = "NGRAM_STORE_NOT_FOUND"
    NGRAM_STORE_EXISTS = "NGRAM_STORE_EXISTS"  # the id names a store of another text or tokenizer


class Violation(NamedTuple):
    """One field that broke a limit: the dotted path of the field, and what to do about it."""

    field: str
    description: str


class PalimpsestError(Exception):
    """Base of every error the project raises on purpose.

    Parameters
    ----------
    reason
        Catalogue entry; stable, for programs.
    message
        One or two sentences for people: what is wrong and what to do.
    metadata
        Short machine-readable facts, such as lengths and names.
    violations
        Fields of the request that broke a limit.
    retry_after
        Seconds after which the same request may succeed; None where retrying is of no use.
    """

    code: ClassVar[Code] = Code.UNKNOWN

    def __init__(
        self,
        reason: Reason | str,
        message: str,
        *,
        metadata: Mapping[str, object] | None = None,
        violations: Sequence[Violation] = (),
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.reason = str(reason)
        self.message = message
        self.metadata = {key: str(value) for key, value in (metadata or {}).items()}
        self.violations = tuple(violations)
        self.retry_after = retry_after

    def __str__(self) -> str:
        details = "".join(f"\n  {v.field}: {v.description}" for v in self.violations)
        return f"{self.message} [{self.reason}]{details}"


class InvalidArgument(PalimpsestError):
    """The request can never succeed as it is."""

    code = Code.INVALID_ARGUMENT

    @classmethod
    def field(cls, reason: Reason, field: str, message: str, **metadata: object) -> "InvalidArgument":
        """Build the common case: one field, one complaint."""
        return cls(reason, message, violations=[Violation(field, message)], metadata=metadata)


class NotFound(PalimpsestError):
    """The named thing does not exist."""

    code = Code.NOT_FOUND


class AlreadyExists(PalimpsestError):
    """The name is taken by something else."""

    code = Code.ALREADY_EXISTS


class FailedPrecondition(PalimpsestError):
    """The request is fine; the state of the system is not."""

    code = Code.FAILED_PRECONDITION


class OutOfRange(PalimpsestError):
    """A position past what exists."""

    code = Code.OUT_OF_RANGE


class Aborted(PalimpsestError):
    """Lost a race; read again and retry."""

    code = Code.ABORTED


class ResourceExhausted(PalimpsestError):
    """A queue, quota or store is full."""

    code = Code.RESOURCE_EXHAUSTED


class Unauthenticated(PalimpsestError):
    """No token, or not a valid one."""

    code = Code.UNAUTHENTICATED


class PermissionDenied(PalimpsestError):
    """The caller is known and may not do this."""

    code = Code.PERMISSION_DENIED


class Cancelled(PalimpsestError):
    """The caller or a cancel request ended the work."""

    code = Code.CANCELLED


class DeadlineExceeded(PalimpsestError):
    """It took longer than the caller allowed."""

    code = Code.DEADLINE_EXCEEDED


class Unavailable(PalimpsestError):
    """The server or something behind it is away; safe to retry."""

    code = Code.UNAVAILABLE


class Unimplemented(PalimpsestError):
    """The server does not have the method."""

    code = Code.UNIMPLEMENTED


class DataLoss(PalimpsestError):
    """Stored bytes are damaged."""

    code = Code.DATA_LOSS


class Internal(PalimpsestError):
    """A bug in the server."""

    code = Code.INTERNAL


BY_CODE: dict[int, type[PalimpsestError]] = {cls.code: cls for cls in PalimpsestError.__subclasses__()}
"""The class for a status code; codes without one are plain PalimpsestError."""


def from_code(code: int, reason: str, message: str, **details: object) -> PalimpsestError:
    """Build the error for a numeric status code, as clients and job records hold it."""
    return BY_CODE.get(code, PalimpsestError)(reason, message, **details)  # type: ignore[arg-type]
