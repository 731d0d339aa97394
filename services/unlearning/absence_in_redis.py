"""Redis and Valkey searched for texts that should be gone: every key, whatever its type."""

from collections.abc import Callable, Iterator
from typing import Any

import redis
import redis.exceptions

from palimpsest.progress import Progress
from palimpsest.redis import translated
from services.unlearning.absence import Findings, Search
from services.unlearning.patterns import Secrets
from services.unlearning.unpacking import BLOCK

_PAGE = 100
"""Elements of a list or stream that are read at a time."""


def search_redis(client: redis.Redis, secrets: Secrets, *, progress: Progress | None = None) -> Findings:
    """Search the names and values of all keys of the client's database, and the server's slow log.

    Long strings are read in blocks of 1 MiB, lists and streams a page at a time, other types element by element. A key
    that is written to meanwhile may hide an element: pause whoever writes the text.

    Other databases that are not empty, and types of modules, are told as unread. So is nothing of the server's files:
    after a removal an append-only file holds the old commands until it is rewritten (BGREWRITEAOF); search its folder.

    Raises
    ------
    ValueError
        The client decodes responses, so that bytes which are not UTF-8 would be lost.
    Unavailable
        JOB_STORE_UNAVAILABLE: the server does not answer.
    """
    if client.get_encoder().decode_responses:
        raise ValueError("a client with decode_responses=False is needed")
    search = Search(secrets, progress)
    with translated():
        _other_databases(search, client)
        for key in client.scan_iter(count=1000):
            place = f"key {search.begin(key)}"
            try:
                _key(search, client, key, place)
            except redis.exceptions.ResponseError as error:  # became another type
                search.unread(place, str(error))
        _slow_log(search, client)
    return search.findings()


def _key(search: Search, client: Any, key: bytes, place: str) -> None:
    kind = client.type(key).decode()
    if kind == "none":  # expired or deleted since
        return
    if kind == "string":
        search.blocks(place, _string(client, key))
    elif kind in _ELEMENTS:
        for element in _ELEMENTS[kind](client, key):
            search.blocks(place, iter([element]))
    else:
        search.unread(place, f"of type {kind}, which cannot be searched")


def _string(client: Any, key: bytes) -> Iterator[bytes]:
    at = 0
    while block := client.getrange(key, at, at + BLOCK - 1):
        yield block
        at += len(block)


def _list(client: Any, key: bytes) -> Iterator[bytes]:
    at = 0
    while page := client.lrange(key, at, at + _PAGE - 1):
        yield from page
        at += len(page)


def _hash(client: Any, key: bytes) -> Iterator[bytes]:
    for field, value in client.hscan_iter(key):
        yield field
        yield value


def _sorted_set(client: Any, key: bytes) -> Iterator[bytes]:
    for member, _ in client.zscan_iter(key):
        yield member


def _stream(client: Any, key: bytes) -> Iterator[bytes]:
    after = b"-"
    while page := client.xrange(key, after, "+", count=_PAGE):
        for _, fields in page:
            for field, value in (fields or {}).items():
                yield field
                yield value
        after = b"(" + page[-1][0]
    for group in client.xinfo_groups(key):
        yield group["name"]
        yield from (consumer["name"] for consumer in client.xinfo_consumers(key, group["name"]))


_ELEMENTS: dict[str, Callable[[Any, bytes], Iterator[bytes]]] = {
    "list": _list,
    "hash": _hash,
    "set": lambda client, key: client.sscan_iter(key),
    "zset": _sorted_set,
    "stream": _stream,
}


def _other_databases(search: Search, client: Any) -> None:
    own = f"db{client.connection_pool.connection_kwargs.get('db') or 0}"
    for name in client.info("keyspace"):
        if name != own:
            search.unread(
                f"database {name.removeprefix('db')}", f"not empty, and not searched; this is {own}"
            )


def _slow_log(search: Search, client: Any) -> None:
    try:
        entries = client.slowlog_get(-1)
    except redis.exceptions.ResponseError as error:  # a user without the right
        search.unread("the slow log", str(error))
        return
    for entry in entries:
        search.blocks("the slow log", iter([entry["command"]]))
