"""What Redis's failures mean to a caller: away, full, or a bug of ours."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

import redis
import redis.exceptions
from redis.commands.core import Script

from palimpsest.disk import disk_full
from palimpsest.errors import Reason, ResourceExhausted, Unavailable


class WorkerRedis(redis.Redis):
    """The client of a worker, whose jobs were accepted while there was room.

    What they write to finish (results, references, entries of catalogues) is written although Redis is at its memory
    limit. It is little, and a job that cannot finish frees nothing.
    """


def growing(client: redis.Redis, body: str) -> Script:
    """Register a script that adds to what is stored: a full Redis runs it for jobs alone."""
    flags = "allow-oom" if isinstance(client, WorkerRedis) else ""
    return client.register_script(f"#!lua flags={flags}\n{body}")


def unbounded(client: redis.Redis, body: str) -> Script:
    """Register a script that a full Redis runs as well, because it frees memory or only keeps what is there alive."""
    return client.register_script(f"#!lua flags=allow-oom\n{body}")


PUT_FIELD = "return redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])"
"""Script that sets a field of a HASH; for ``growing``."""
_AWAY = ("LOADING", "BUSY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "READONLY", "MISCONF", "NOREPLICAS")
"""First words of replies that say the server cannot serve this now, though it answers."""


@contextmanager
def translated() -> Iterator[None]:
    """Raise Unavailable where Redis does not answer, ResourceExhausted where its memory or its disk is full.

    Whatever else it complains about is a bug of ours and goes through.
    """
    try:
        yield
    except (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError, OSError) as error:
        raise Unavailable(
            Reason.JOB_STORE_UNAVAILABLE,
            f"The job store does not answer ({error}); try again, or look at Redis.",
            retry_after=2,
        ) from error
    except redis.exceptions.ResponseError as error:
        word = str(error).partition(" ")[0]
        if isinstance(error, redis.exceptions.OutOfMemoryError) or word == "OOM" or "OOM " in str(error):
            raise ResourceExhausted(
                Reason.JOB_STORE_FULL,
                "The job store is at its memory limit; delete finished jobs or raise maxmemory, then try again.",
                retry_after=10,
            ) from error
        if word == "MISCONF" and os.strerror(errno.ENOSPC) in str(error):
            raise disk_full("what Redis, the job store, has to write") from error
        if word in _AWAY:
            raise Unavailable(
                Reason.JOB_STORE_UNAVAILABLE,
                f"The job store cannot serve now ({error}); try again, or look at Redis.",
                retry_after=2,
            ) from error
        raise


def forget_deleted(client: redis.Redis) -> str | None:
    """Have Redis write its append-only file anew, for what was deleted is in the old one until then.

    It does so in the background. Returns why it will not, such as for want of the right to ask for it; None if it does,
    or keeps no such file.
    """
    try:
        if client.info("persistence").get("aof_enabled"):
            client.bgrewriteaof()
    except redis.exceptions.RedisError as error:
        return str(error)
    return None


def not_durable(acknowledged: list[int] | None) -> Unavailable | None:
    """Return the error for a WAITAOF reply that does not promise anything, None for one that does."""
    if acknowledged and acknowledged[0] >= 1:
        return None
    return Unavailable(
        Reason.JOB_STORE_UNAVAILABLE,
        "The job store did not confirm in time that the job is on disk; send it again with the same request_id.",
        retry_after=2,
    )


def aof_missing(error: Exception) -> bool:
    """Say whether WAITAOF failed because the server keeps no append-only file, or is too old to know it."""
    text = str(error).lower()
    return isinstance(error, redis.exceptions.ResponseError) and (
        "appendonly" in text or "unknown command" in text
    )
