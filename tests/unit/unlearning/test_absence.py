"""Secrets hidden in files and in a real Valkey, in every form, and found without being repeated."""

import base64
import bz2
import gzip
import json
import lzma
import os
import zipfile
import zlib
from dataclasses import asdict

import pytest
import redis
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from palimpsest.certificates import canonical
from palimpsest.embedded.valkey import ValkeyServer
from palimpsest.errors import Cancelled, InvalidArgument, Reason
from palimpsest.progress import NullProgress
from services.unlearning import unpacking
from services.unlearning.absence import MOST_FOUND, search_folder
from services.unlearning.absence_in_redis import search_redis
from services.unlearning.patterns import Secrets
from tests.waiting import until

SECRET = 'Zoë\'s "canary"/17\nsings'
OTHER = "a second secret"
SECRETS = Secrets([SECRET, OTHER])

STORED = {
    "text": SECRET.encode(),
    "json": json.dumps({"text": f"before {SECRET} after"}).encode(),
    "json, not ascii": json.dumps({"text": f"before {SECRET} after"}, ensure_ascii=False).encode(),
    "json, capitals": json.dumps([SECRET]).replace("\\u00eb", "\\u00EB").encode(),
    "json in json": json.dumps({"body": json.dumps({"text": f"x{SECRET}"})}, ensure_ascii=False).encode(),
    "json in json, ascii": json.dumps({"body": json.dumps({"text": f"x{SECRET}"})}).encode(),
    "base64": base64.b64encode(SECRET.encode()),
    "base64, one before": base64.b64encode(b"1" + SECRET.encode() + b"and more"),
    "base64, two before": base64.b64encode(b"12" + SECRET.encode() + b"a"),
    "base64url, four before": base64.urlsafe_b64encode(b"\xff\xfe\xfd\xfc" + SECRET.encode() + b"ab"),
    "utf-16": SECRET.encode("utf-16"),
    "utf-16, big": SECRET.encode("utf-16-be"),
    "hexadecimal": b"0x" + SECRET.encode().hex().encode(),
    "hexadecimal, capitals": SECRET.encode().hex().upper().encode(),
}


def texts_in(result) -> bool:
    """Whether a result repeats a secret."""
    shown = repr(result) + json.dumps(asdict(result))
    return (
        any(pattern.data.decode(errors="ignore") in shown for pattern in SECRETS.patterns) or SECRET in shown
    )


@pytest.mark.parametrize("form", STORED)
def test_every_form_is_found_in_a_file(tmp_path, form):
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "deep" / "er" / "file").write_bytes(b"some bytes before " + STORED[form] + b" and after")
    result = search_folder(tmp_path, SECRETS)
    assert not result.absent
    assert {(o.place, o.secret) for o in result.found} == {("deep/er/file", 0)}
    assert not texts_in(result)


@settings(derandomize=True, deadline=None)
@given(
    text=st.text(st.characters(exclude_categories=["Cs"]), min_size=8, max_size=40),
    before=st.binary(max_size=5),
    after=st.binary(max_size=5),
)
def test_any_text_is_found_in_base64_whatever_is_around_it(text, before, after):
    secrets = Secrets([text])
    assert secrets.within(base64.b64encode(before + text.encode() + after))
    assert secrets.within(base64.urlsafe_b64encode(before + text.encode() + after))
    assert secrets.within(json.dumps(["x", text]).encode())
    assert secrets.within(json.dumps({"a": json.dumps({"b": text})}).encode())


def test_nothing_is_found_where_nothing_is(tmp_path):
    (tmp_path / "a").write_bytes(b"x" + os.urandom(1 << 16))
    (tmp_path / "b").write_text(SECRET[:-1] + "!" + OTHER.upper())
    result = search_folder(tmp_path, SECRETS)
    assert result.absent
    assert (result.found, result.unread, result.places) == ((), (), 2)
    assert result.bytes >= (1 << 16) + len(OTHER)
    assert canonical(asdict(result))  # evidence for a certificate


@pytest.mark.parametrize("offset", [-30, -13, -1, 0, 5])
def test_across_the_border_of_two_blocks(tmp_path, monkeypatch, offset):
    monkeypatch.setattr(unpacking, "BLOCK", 4096)
    data = SECRET.encode()
    at = 2 * 4096 + offset
    (tmp_path / "file").write_bytes(b"x" * at + data + b"y" * 5000)
    (found,) = search_folder(tmp_path, SECRETS).found
    assert (found.offset, found.form) == (at, "text")


PACKED = {
    "gzip": gzip.compress,
    "gzip, two members": lambda data: gzip.compress(b"first") + gzip.compress(data),
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": lambda data: zstandard.ZstdCompressor().compress(data),
    "zlib": zlib.compress,
}


@pytest.mark.parametrize("kind", PACKED)
def test_in_compressed_files(tmp_path, kind):
    content = base64.b64encode(os.urandom(3000)) + SECRET.encode() + bytes(3 << 20)
    packed = PACKED[kind](content)
    assert SECRET.encode() not in packed
    (tmp_path / "file").write_bytes(packed)
    result = search_folder(tmp_path, SECRETS)
    assert [(o.place, o.form) for o in result.found] == [("file (unpacked)", "text")]
    assert result.bytes > len(content)
    (tmp_path / "file").write_bytes(PACKED[kind](bytes(5000)))
    assert search_folder(tmp_path, SECRETS).absent


def test_in_archives(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("inner/one.txt", SECRET * 3)
        archive.writestr(f"{OTHER}.txt", "nothing")
    result = search_folder(tmp_path, SECRETS)
    assert {(o.secret, o.form) for o in result.found} >= {(0, "text"), (1, "text")}
    assert "a.zip (inner/one.txt)" in {o.place for o in result.found}
    assert not texts_in(result)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (gzip.compress(os.urandom(9000))[:-500], "gzip: damaged"),
        (lzma.compress(os.urandom(9000))[:-500], "xz: damaged"),
        (bz2.compress(os.urandom(9000))[:50] + b"rubbish" * 10, "bzip2: damaged"),
        (b"PK\x03\x04 is no archive", "zip: damaged"),
        (b"REDIS0011\xfa", "RDB: a snapshot"),
    ],
)
def test_what_cannot_be_unpacked_is_told(tmp_path, data, why):
    (tmp_path / "file").write_bytes(data)
    result = search_folder(tmp_path, SECRETS)
    assert not result.absent
    assert result.found_count == 0
    (unread,) = result.unread
    assert unread.startswith(f"file: {why}")
    assert search_folder(tmp_path, SECRETS, skip=[tmp_path / "file"]).absent


def test_two_bytes_that_look_like_zlib_are_not_packed(tmp_path):
    (tmp_path / "file").write_bytes(b"\x78\x9c is only text")
    assert search_folder(tmp_path, SECRETS).absent


def test_names_and_links(tmp_path):
    (tmp_path / OTHER).mkdir()
    (tmp_path / OTHER / "file").write_text("nothing")
    (tmp_path / "link").symlink_to(f"/nowhere/{OTHER}")
    result = search_folder(tmp_path, SECRETS)
    places = {occurrence.place for occurrence in result.found}
    assert "link (target of the link)" in places
    assert len([place for place in places if place.startswith("(name with SHA-256 ")]) == 2
    assert not texts_in(result)


def test_links_are_not_followed(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text(SECRET)
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "link").symlink_to(outside)
    os.mkfifo(inside / "pipe")  # opening it would wait for ever
    assert search_folder(inside, SECRETS).absent


def test_a_folder_that_is_not_there_proves_nothing(tmp_path):
    with pytest.raises(FileNotFoundError):
        search_folder(tmp_path / "mistyped", SECRETS)


def test_many_are_counted_and_not_all_kept(tmp_path):
    for at in range(MOST_FOUND + 5):
        (tmp_path / f"{at}").write_text(OTHER)
    result = search_folder(tmp_path, SECRETS)
    assert result.found_count == MOST_FOUND + 5
    assert len(result.found) == MOST_FOUND


def test_a_search_can_be_stopped(tmp_path):
    class Stopped(NullProgress):
        def check(self) -> None:
            raise Cancelled(Reason.JOB_CANCELLED, "stopped")

    (tmp_path / "file").write_text("text")
    with pytest.raises(Cancelled):
        search_folder(tmp_path, SECRETS, progress=Stopped())


@pytest.mark.parametrize("texts", [[], ["short"], ["long enough", ""]], ids=str)
def test_texts_that_would_be_found_by_chance(texts):
    with pytest.raises(InvalidArgument):
        Secrets(texts)


def test_further_forms(tmp_path):
    tokens = b"".join(token.to_bytes(4, "little") for token in (17, 40_000, 3))
    (tmp_path / "file").write_bytes(b"abc" + tokens)
    assert search_folder(tmp_path, SECRETS).absent
    (found,) = search_folder(tmp_path, Secrets([SECRET], [{"uint32 tokens": tokens}])).found
    assert (found.form, found.offset) == ("uint32 tokens", 3)


# ---- Valkey


@pytest.fixture
def server(tmp_path):
    running = ValkeyServer(tmp_path / "valkey").start()
    yield running
    running.stop()


@pytest.fixture
def client(server):
    with redis.Redis.from_url(server.url) as found:
        found.config_set("slowlog-log-slower-than", -1)
        yield found


def fill(client, text: bytes) -> list[str]:
    """A key of each type that holds the text; returns their names, but for the one that is a secret."""
    client.set("string", b"x" * (3 << 20) + text + b"y")
    client.rpush("list", *[b"%d" % at for at in range(250)], text)
    client.sadd("set", *[b"%d" % at for at in range(600)], text)
    client.zadd("zset", {b"%d" % at: at for at in range(600)} | {text: 3.5})
    client.hset("hash value", mapping={b"%d" % at: b"v" for at in range(600)} | {b"f": text})
    client.hset("hash field", text, b"v")
    for at in range(250):
        client.xadd("stream", {"n": at})
    client.xadd("stream", {"body": text})
    client.xadd("stream field", {text: "v"})
    client.xadd("stream group", {"n": 1})
    client.xgroup_create("stream group", text)
    client.xadd("stream consumer", {"n": 1})
    client.xgroup_create("stream consumer", "g")
    client.xgroup_createconsumer("stream consumer", "g", text)
    client.set(b"name " + text, b"v")
    names = ["string", "list", "set", "zset", "hash value", "hash field"]
    return [*names, "stream", "stream field", "stream group", "stream consumer"]


def test_every_type_of_key(client):
    fill(client, b"nothing of the kind")
    assert search_redis(client, SECRETS).absent
    client.flushall()
    names = fill(client, b"some " + SECRET.encode())
    result = search_redis(client, SECRETS)
    places = {occurrence.place for occurrence in result.found}
    assert places >= {f"key {name}" for name in names}
    assert any(place.startswith("(name with SHA-256 ") for place in places)
    assert len(places) == len(names) + 1
    assert result.places == client.dbsize()
    assert not texts_in(result)
    client.flushall()
    assert search_redis(client, SECRETS).absent


@pytest.mark.parametrize("form", STORED)
def test_every_form_is_found_in_a_key(client, form):
    client.hset("job", "payload", STORED[form])
    assert {(o.place, o.secret) for o in search_redis(client, SECRETS).found} == {("key job", 0)}


def test_the_slow_log(client):
    client.config_set("slowlog-log-slower-than", 0)
    client.set("key", OTHER)
    client.delete("key")
    client.config_set("slowlog-log-slower-than", -1)
    assert {o.place for o in search_redis(client, SECRETS).found} == {"the slow log"}
    client.slowlog_reset()
    assert search_redis(client, SECRETS).absent


def test_other_databases_are_told(client, server):
    with redis.Redis.from_url(f"{server.url}?db=3") as other:
        other.set("key", SECRET)
        result = search_redis(client, SECRETS)
        assert result.unread == ("database 3: not empty, and not searched; this is db0",)
        assert not result.absent
        assert search_redis(other, SECRETS).found_count == 1


def test_the_append_only_file_holds_what_was_deleted_until_it_is_rewritten(client, server):
    client.set("key", OTHER)
    client.delete("key")
    assert search_redis(client, SECRETS).absent
    client.execute_command("WAITAOF", 1, 0, 5000)
    folder = server.directory / "appendonlydir"
    snapshots = list(folder.glob("*.rdb"))
    assert search_folder(folder, SECRETS, skip=snapshots).found_count == 1
    client.bgrewriteaof()
    until(lambda: not client.info("persistence")["aof_rewrite_in_progress"])
    assert search_folder(folder, SECRETS, skip=list(folder.glob("*.rdb"))).absent


def test_a_client_that_decodes_would_miss_bytes(server):
    with (
        redis.Redis.from_url(server.url, decode_responses=True) as client,
        pytest.raises(ValueError, match="decode_responses"),
    ):
        search_redis(client, SECRETS)
