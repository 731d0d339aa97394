"""The catalogue of reasons: every ``ErrorInfo.reason``, stable, with a line on what it means.

One block for each area. A room adds its reasons to its own block, before it raises them; a test compares this list with
the code in both directions. ``palimpsest.errors`` has the exceptions that carry a reason.
"""

from enum import StrEnum, auto


class Reason(StrEnum):
    """Why a call failed, for programs; ``PalimpsestError.reason`` is the value, which equals the name."""

    @staticmethod
    def _generate_next_value_(name: str, start: int, count: int, last_values: list[str]) -> str:
        """Give ``auto()`` the member's name, in capitals, as its value."""
        return name

    # ---- any request
    INVALID_REQUEST = auto()  # a field is missing or out of its limits; see the violations
    MALFORMED_MESSAGE = auto()  # the bytes are not the message that the method takes
    ANSWER_TOO_LARGE = auto()  # more bytes than a message may have
    REQUEST_ID_REUSED = auto()  # the request_id was used before with another request
    DEADLINE_TOO_LONG = auto()  # the deadline is longer than the method allows
    DEADLINE_EXCEEDED = auto()
    TOO_MANY_REQUESTS = auto()  # the server is at its limit of concurrent calls
    QUOTA_EXCEEDED = auto()  # this caller's own allowance is used up
    STREAM_IDLE = auto()  # the stream waited too long for its caller; open it again and go on
    SHUTTING_DOWN = auto()  # the server is draining; another one will answer
    DISK_FULL = auto()  # the server's disk has no room; free some, then send the request again
    PAGE_TOKEN_INVALID = auto()
    BUG = auto()  # an unexpected exception; the server logged it under the request id
    CANCELLED = auto()
    UNIMPLEMENTED = auto()  # the server does not have the method
    SERVER_UNREACHABLE = auto()  # raised by the client: nothing answers at the address

    # ---- access and listeners
    TOKEN_MISSING = auto()
    TOKEN_INVALID = auto()
    SCOPE_MISSING = auto()  # the token is valid but lacks the method's scope
    SERVICE_TOKEN_MISSING = auto()  # a job has no token to call other rooms with
    IMPERSONATION_REFUSED = auto()  # the token may not act for the caller it names
    LISTENER_INSECURE = auto()  # plain text where other machines can reach it
    TOKENS_FILE = auto()  # the file of accepted tokens is missing or unusable
    TLS_FILES = auto()  # a certificate or key file is missing or unusable
    METRICS_ADDRESS = auto()  # the address for /metrics cannot be used
    AUDIT_UNWRITABLE = auto()  # the audit log fails, and without its line no call changes anything

    # ---- the embedded stack
    STACK_RUNNING = auto()  # another stack holds the state directory, or it is not ours to stop
    STACK_NOT_READY = auto()  # a process of the stack did not start or stop; see its log
    SERVICES_MISSING = auto()  # only the client is installed here
    ADDRESS_IN_USE = auto()
    ADDRESS_INVALID = auto()  # not host:port or unix:/path, or no address of this machine
    STATE_FOLDER = auto()  # the state directory is no directory

    # ---- jobs
    JOB_NOT_FOUND = auto()
    JOB_NOT_FINISHED = auto()  # only a finished job can be deleted
    JOB_NOT_RETRYABLE = auto()  # only FAILED and CANCELLED jobs are retried
    JOB_CANCELLED = auto()
    JOB_KIND_UNKNOWN = auto()  # no worker code for this kind of job
    JOB_QUEUE_FULL = auto()
    JOB_RECORD_NEWER = auto()  # a newer version wrote the record; upgrade this process
    JOB_TOO_LARGE = auto()  # the request does not fit a job record; send an artefact
    ATTEMPTS_EXHAUSTED = auto()  # the worker died on every attempt; dead-lettered
    EXECUTION_TIMEOUT = auto()
    JOB_STORE_UNAVAILABLE = auto()  # Redis/Valkey does not answer
    JOB_STORE_FULL = auto()  # Redis/Valkey is at maxmemory

    # ---- artefacts
    ARTIFACT_NOT_FOUND = auto()
    ARTIFACT_IN_USE = auto()
    ARTIFACT_CORRUPT = auto()  # the stored bytes no longer have their digest
    ARTIFACT_TOO_LARGE = auto()
    DIGEST_INVALID = auto()  # not sha256:<64 hex digits>
    DIGEST_MISMATCH = auto()  # the uploaded bytes do not have the announced digest
    CHECKSUM_MISMATCH = auto()  # a chunk was damaged on the way
    ARTIFACT_READ_FAILED = auto()  # the stored bytes are intact but were read wrongly; read again
    OFFSET_PAST_END = auto()  # metadata["size_bytes"] is where the artefact ends
    UPLOAD_NOT_FOUND = auto()
    UPLOAD_BUSY = auto()  # another stream is writing this upload
    UPLOAD_OFFSET = auto()  # metadata["committed_size"] says where to go on
    UPLOAD_REUSED = auto()  # the upload was begun with another digest, size or media type
    UPLOAD_TOO_LONG = auto()  # more bytes were sent than announced
    UPLOAD_ORDER = auto()  # open first, then chunks, then finish
    STORE_FULL = auto()  # the artefact store's disk has no room

    # ---- models
    MODEL_NOT_FOUND = auto()
    MODEL_EXISTS = auto()  # the id names a model with other content
    MODEL_HAS_CHILDREN = auto()
    MODEL_SOURCE_NOT_FOUND = auto()
    MODEL_SOURCE_FORBIDDEN = auto()  # a path outside the server's model roots
    MODEL_PICKLED = auto()  # weights in a format that can run code
    MODEL_INVALID = auto()  # no config, a damaged file, or not a causal LM
    MODEL_CHANGED = auto()  # the files no longer have the registered fingerprint
    HUB_UNAVAILABLE = auto()

    # ---- training
    TRAINING_DATA_INVALID = auto()  # a line of the examples that cannot be read; the message names it
    TRAINING_DATA_EMPTY = auto()  # no example has a token that counts
    TRAINING_RECIPE_INVALID = auto()  # settings that no run can follow; the violations name them
    TRAINING_DIVERGED = auto()  # the loss or the gradient was no longer finite; metadata["step"]
    CHECKPOINT_DAMAGED = auto()  # a training state is not what was written
    CHECKPOINT_MISMATCH = auto()  # a training state of another run; metadata["differs"]
    ADAPTER_INVALID = auto()  # an adapter that does not fit the model
    ADAPTER_ATTACHED = auto()  # the model has an adapter already
    ADAPTER_MISSING = auto()  # the model has no adapter
    DEVICES_MISSING = (
        auto()
    )  # a training is for more devices than the worker has; metadata gives both numbers
    DEVICE_LOST = (
        auto()
    )  # a process of a training on several devices ended; the job goes on when it is retried
    ADAPTERS_NOT_INSTALLED = auto()  # the package peft is not installed where the training runs

    # ---- decoding: text
    PROMPT_EMPTY = auto()
    PROMPT_TOO_LONG = auto()  # metadata gives prompt_tokens, max_tokens and context_length
    TOKEN_ID_OUT_OF_RANGE = auto()
    MIN_TOKENS_TOO_LARGE = auto()  # more than max_tokens
    BAD_WORD_EMPTY = auto()
    STRUCTURED_INVALID = auto()  # the schema, expression or grammar cannot be honoured; the message says why
    STRUCTURED_TOO_COMPLEX = auto()  # its grammar went over the limits of one token
    STRUCTURED_UNSUPPORTED = auto()  # the model has no end-of-sequence token, with which such a text ends
    SETTING_UNSUPPORTED = auto()  # this way of generating cannot honour the field; leave it out
    TOP_K_TOO_LARGE = auto()  # larger than the vocabulary
    STOP_EMPTY = auto()
    NO_CHAT_TEMPLATE = auto()
    CHAT_INVALID = auto()  # the model's template refuses these messages
    ENGINE_QUEUE_FULL = auto()
    ENGINE_MEMORY_FULL = auto()  # the request, alone or with those waiting, exceeds cache memory
    REQUEST_FAILED = auto()  # an unexpected error of one request; the engine goes on
    ENGINE_FAILED = auto()  # the engine stopped; the process restarts
    BATCH_EMPTY = auto()  # the JSONL artefact has no line
    BATCH_LINE_INVALID = auto()  # reported inside the result, for that line only

    # ---- decoding: drafts and quotes
    DRAFT_SETTINGS_INVALID = auto()  # a draft setting out of range, or two that exclude each other
    CANDIDATES_INVALID = auto()  # a candidate block that is damaged, too large or inconsistent
    KEY_SITE_UNKNOWN = auto()  # the architecture's last MLP is unknown, so retrieval queries cannot be read
    CALIBRATION_EMPTY = auto()  # too few sampled positions to calibrate from

    # ---- codec: keys and values
    KV_SHAPE = auto()  # keys and values of the wrong or different shapes, or empty
    KV_DTYPE = auto()  # an element type that the codec does not support
    KV_RANGE = auto()  # token ranges that are out of bounds or not contiguous
    KV_LAYER_UNSUPPORTED = auto()  # a layer with a sliding window or a recurrent state
    KV_ROTARY = auto()  # impossible rotary settings
    KV_NOT_FINITE = auto()  # infinities or NaN, which only the lossless level can store
    KV_LEVEL_UNKNOWN = auto()
    KV_CALIBRATION = auto()  # too few caches to calibrate from, or caches of different models
    KV_PROFILE_INVALID = auto()  # not a calibration profile, or not one for this cache
    KV_PROFILE_MISSING = auto()  # metadata["profile"] is the one needed
    KV_PROFILE_MISMATCH = auto()  # made for another model, or not the profile the chunk was coded with
    KV_IDENTITY_MISMATCH = auto()  # another model, tokenizer or prefix; metadata says which
    KV_FORMAT_UNKNOWN = auto()  # not a chunk, or one of a newer format
    KV_DAMAGED = auto()  # a chunk's bytes are corrupt; metadata["offset"] says where
    KV_TOO_LARGE = auto()  # a chunk would decode to more than is allowed
    CONTEXT_NOT_FOUND = auto()
    CONTEXT_EXISTS = auto()  # the name is taken by other tokens, another model or coding
    LOAD_ABANDONED = auto()  # the receiver ended its side, or reported nothing for too long
    KV_PLAN_INVALID = auto()  # a load that cannot be planned: no chunks, or impossible times or sizes
    KV_REPORT_INVALID = auto()  # a receiver's report that cannot be about this load

    # ---- datastore: corpora
    CORPUS_NOT_FOUND = auto()
    CORPUS_EXISTS = auto()  # the id names a corpus of another model, encoder or cut
    CORPUS_DAMAGED = auto()  # stored bytes of a corpus are corrupt
    CORPUS_BUSY = auto()  # another process has kept the corpus's lock for too long
    CORPUS_FENCED = auto()  # a later job has taken the corpus over; start again
    CORPUS_MODEL_MISMATCH = auto()  # made for another model, tokenizer or encoder
    CORPUS_NOT_BUILT = auto()  # there are no vectors to search yet; run BuildIndex
    CORPUS_FULL = auto()  # too many unsealed tokens; run BuildIndex
    CORPUS_EPOCH = auto()  # the corpus has not reached the requested min_epoch
    DOCUMENT_NOT_FOUND = auto()
    DOCUMENT_ENCODING = auto()  # metadata["offset"] is the first bad byte
    DOCUMENT_ROUND_TRIP = auto()  # the tokenizer does not give the bytes back
    DOCUMENT_EMPTY = auto()
    DOCUMENT_TOO_LARGE = auto()
    WATCH_BROKEN = auto()  # a deletion was not acknowledged in time; quote nothing, watch again
    DATASTORE_LOST = auto()  # the datastore room went away while its corpora were being quoted
    DOCUMENT_ORDER = auto()  # begin, then chunks, then end; one document after another
    DOCUMENT_SIZE = auto()  # not the bytes that begin announced
    TOKENIZER_UNSUPPORTED = auto()  # its token ids do not map to bytes
    ENCODER_UNKNOWN = auto()
    ENCODER_MISSING = auto()  # the encoder's package is not installed
    KEYS_INVALID = auto()  # keys of the wrong shape, or not finite
    PURGE_INCOMPLETE = auto()  # bytes of a deleted document are still there; metadata says where
    RANGE_INVALID = auto()  # a byte range that is not within the document

    # ---- datastore: n-gram stores
    NGRAMS_FORMAT_UNKNOWN = auto()  # not a store, or one of another format version
    NGRAMS_DAMAGED = auto()  # a store's bytes are corrupt
    NGRAMS_TOKENIZER_MISMATCH = auto()  # the store was built with another tokenizer
    NGRAMS_EMPTY = auto()  # the text is empty
    NGRAMS_LINE_INVALID = auto()  # a JSONL line is not an object with a "text"
    NGRAMS_STALE = auto()  # documents were deleted each time the store was about to be finished
    NGRAM_STORE_NOT_FOUND = auto()
    NGRAM_STORE_EXISTS = auto()  # the id names a store of another text or tokenizer

    # ---- unlearning: algorithms
    ALGORITHM_UNKNOWN = auto()  # no algorithm of that id; the message lists them
    ALGORITHM_PARAMETER_INVALID = (
        auto()
    )  # an unknown hyper-parameter, or a value out of bounds; see the violation
    ALGORITHM_INPUT_MISSING = auto()  # the algorithm needs data that was not given; the violation names it
    ALGORITHM_NOT_TRAINED = auto()  # the algorithm changes weights in one go and has no objective
    TASK_VECTOR_MISMATCH = auto()  # the reinforced model is not the target trained further
    SHARDS_INVALID = (
        auto()
    )  # a description of adapters by shard that is damaged, or does not fit the files beside it
    SHARD_DOCUMENT_UNKNOWN = auto()  # a document that no shard holds, so there is nothing to remove it from

    # ---- unlearning: metrics
    METRIC_ITEMS_INVALID = auto()  # nothing to measure, or items that the metric cannot take
    METRIC_CONVENTION_UNKNOWN = auto()  # no such convention or attack; the message lists them
    METRIC_MODELS_DIFFER = auto()  # models whose states do not fit each other, or that share their layers
    METRIC_NOT_FINITE = auto()  # the model puts out NaN, so there is nothing to measure

    # ---- unlearning: data sets
    DATASET_INVALID = auto()  # files are missing, changed, or do not fit each other
    DATASET_LINE_INVALID = auto()  # metadata gives the file and the line
    DATASET_SIZES = auto()  # a data set of these sizes cannot be generated or cut
    DATASET_SPLITS_OVERLAP = auto()  # a name is in two splits that must share none
    DATASET_LENGTHS_DIFFER = auto()  # length alone tells forget and holdout texts apart
    FORGET_RETAIN_OVERLAP = auto()  # text to be forgotten is in the retain set, too
    FORGET_HOLDOUT_OVERLAP = (
        auto()
    )  # text to be forgotten is in the holdout set, too, as if it had never been seen
    HOLDOUT_RETAIN_OVERLAP = auto()  # text of the holdout set is in the retain set, and so is trained on

    # ---- unlearning: audit log and certificates
    NOT_CANONICAL = auto()  # a value, or a file, that is not canonical JSON
    RECORD_INVALID = auto()  # fields are missing, unknown or of the wrong form; the message names them
    LOG_CHAIN_BROKEN = auto()  # the audit log was damaged or changed; metadata["seq"] says where
    LOG_BUSY = auto()  # other processes have kept the audit log's lock for too long
    LOG_EMPTY = auto()  # no event has been written yet
    EVENT_EXISTS = auto()  # the request has such an event already, with another payload
    KEY_INVALID = auto()  # a key file that is damaged, or that others can read
    KEY_MISSING = auto()  # no key can sign this now; make a new one
    KEY_NOT_FOUND = auto()  # no key, or more than one, has such an id
    PAYLOAD_NOT_FOUND = auto()
    PAYLOAD_DAMAGED = auto()  # a payload's bytes were changed, or are another subject's
    SUBJECT_SHREDDED = auto()  # the subject's key does not exist, so that its payloads cannot be read

    # ---- unlearning: removal requests
    REMOVAL_NOT_FOUND = auto()
    REMOVAL_EXISTS = auto()  # the removal_id or request_id is another request's
    REMOVAL_STATE = auto()  # the request is not in a state that the call can change; metadata["state"]
    REMOVALS_HELD = auto()  # too many of the caller's requests are held
    FORGET_SET_EMPTY = auto()
    RETAIN_REQUIRED = auto()  # the algorithm trains on a retain set
    START_REQUIRED = auto()  # the algorithm begins with another model's weights than the one named
    START_INVALID = auto()  # not a model that the algorithm can begin with
    REFERENCE_REQUIRED = auto()  # the stopping rule needs a model trained without the forget set
    REFERENCE_INVALID = auto()  # not a model that was trained without the forget set
    TOKENIZER_MISMATCH = auto()  # models of different tokenizers cannot be compared
    CERTIFICATE_MISSING = auto()  # the request has not ended with a new model
    UTILITY_BUDGET_EXHAUSTED = auto()  # removals have lost more utility than the plan allows
    FENCE_LOST = auto()  # a later attempt writes to the lineage now
    STORE_NOT_EMPTY = auto()  # after its purge a store still has what was deleted; metadata["store"]

    # ---- unlearning: attacks, stopping, verdicts
    ATTACK_INVALID = auto()  # an attack that cannot be run, or was not run on every model
    SCORES_INVALID = auto()  # not one finite number an item, too few items, or other items
    METRIC_MISSING = auto()  # a rule asks for a metric that was not measured
    REFERENCE_MISSING = auto()  # nothing to compare with, or a reference without that metric
    PROBE_INVALID = auto()  # nothing to measure a run on, or no steps between measurements
    RUN_NOT_BEGUN = auto()  # a watched run was not measured before its first step
    BRACKET_INVALID = auto()  # a search between two checkpoints that are on the same side of the target
    SPLIT_EMPTY = auto()  # all items fall into one of the halves to tune on and to certify with
    SPLIT_CROSSED = auto()  # items kept for the certificate where settings are tuned
    SEARCH_INVALID = auto()  # nothing to search, or every setting diverged

    # ---- grafting
    UNSUPPORTED_ARCH = auto()  # an architecture whose layers cannot be grafted by rows; the message names it
    ARCH_MISMATCH = auto()  # models of different architectures or sizes; the violations name every difference
    NON_FINITE_WEIGHTS = auto()  # NaN or infinite weights; the message names the tensors
    TIED_WEIGHTS_AMBIGUOUS = auto()  # embedding or head alone is grafted, and they are one matrix; say untie
    SPAN_NOT_FOUND = auto()  # no such text in the prompt, or not so many times
    SPAN_AMBIGUOUS = auto()  # the text is there more than once; say which occurrence
    SPAN_SPLITS_TOKEN = auto()  # the span begins or ends within a token; metadata gives the token's range
    POSITION_OUT_OF_RANGE = auto()
    LAYER_OUT_OF_RANGE = auto()
    COMPONENT_OUT_OF_RANGE = auto()  # no such component in this architecture; the message lists them
    EMPTY_GRAFT = auto()  # nothing is selected
    TARGET_EMPTY = auto()  # nothing to read the probability of
    GRAFTS_TOO_MANY = auto()  # more cells, or more rows, than one request may have
