"""Submitting work: what a job is, which queue it goes to, and which submissions are equal."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from palimpsest.settings import Settings

_CALL_FIELDS = ("request_id", "skip_cache")
"""Request fields that say how to submit and not what to do."""


@dataclass(frozen=True, slots=True)
class JobSpec:
    """Work to be queued.

    Attributes
    ----------
    kind
        Name of the handler, ``"room.verb"``.
    request
        Passed to the handler unchanged.
    queue
        Celery queue; ``job_spec`` chooses it from what the job needs.
    inputs
        Digests of artefacts the job needs. The artefacts are kept as long as the job's record, and the handler
        finds the digests in ``JobContext.inputs``.
    action
        Everything that decides the result, as JSON-able data (see ``job_spec``); None: every submission
        runs. Equal actions of one principal are one job. A finished result is shared: another principal who submits
        an equal action gets a record of its own with a copy of it. Unfinished jobs are not shared, so that one
        principal's cancellation never ends another's work.
    request_id, principal
        The same id from the same principal for the same kind is the same submission.
    max_attempts
        Attempts before the job is given up because its workers die; None for the server's setting.
    execution_timeout
        Longest run of one attempt in seconds; None for no limit.
    skip_cache
        Run even if an equal action was done; the new result replaces the old one for later submissions.
    delay
        Seconds before the first attempt.
    """

    kind: str
    request: Message
    queue: str = "cpu"
    inputs: Sequence[str] = ()
    action: Mapping[str, object] | None = None
    request_id: str = ""
    principal: str = ""
    max_attempts: int | None = None
    execution_timeout: float | None = None
    skip_cache: bool = False
    delay: float = 0.0


def job_spec(
    kind: str,
    request: Message,
    settings: Settings,
    *,
    principal: str,
    needs: str = "cpu",
    inputs: Sequence[str] = (),
    action: Mapping[str, object] | None = None,
    ignore: Sequence[str] = (),
) -> JobSpec:
    """Return the job for a request.

    Two submissions are equal if they have the same kind, the same ``action`` and the same request apart from
    ``request_id``, ``skip_cache`` and the fields to ignore. Name in ``action`` the contents behind the names in the
    request: the model's fingerprint, the digest or epoch of a store, and the version of the method.

    The device and the number format (``PALIMPSEST_DEVICE``, ``PALIMPSEST_DTYPE``) are not part of an action. They
    belong to the worker that runs the job, which nobody knows at submission, and a request cannot choose them: what
    any worker of this installation computes is an answer to the request. After changing a worker's number format, set
    ``skip_cache`` to compute a result again. A job whose result describes the machine it ran on, such as a measured
    speed, has no action.

    Parameters
    ----------
    kind
        Name of the handler, ``"room.verb"``.
    request
        Passed to the handler; its ``request_id`` and ``skip_cache`` are used where the message has them.
    settings
        ``job_queues`` maps needs to queues.
    principal
        The caller the job works for.
    needs
        ``"cpu"``, ``"model"`` (it runs a model) or ``"train"`` (it changes one).
    inputs
        Digests of artefacts the job needs.
    action
        What decides the result beside the request; None: every submission runs.
    ignore
        Request fields that do not decide the result, such as a name whose contents ``action`` has.

    Raises
    ------
    ValueError
        Nothing is mapped to that need.
    """
    decides = None
    if action is not None:
        copy = type(request)()
        copy.CopyFrom(request)
        for name in (*_CALL_FIELDS, *ignore):
            if name in request.DESCRIPTOR.fields_by_name:
                copy.ClearField(name)
        decides = {**action, "request": MessageToDict(copy, preserving_proto_field_name=True)}
    return JobSpec(
        kind=kind,
        request=request,
        queue=settings.queue_for(needs),
        inputs=inputs,
        action=decides,
        request_id=getattr(request, "request_id", ""),
        principal=principal,
        skip_cache=getattr(request, "skip_cache", False),
    )
