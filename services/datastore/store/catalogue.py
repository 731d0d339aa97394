"""Corpora by tenant and id: one folder each, opened once per process, never shared between tenants."""

import hashlib
import os
import re
import shutil
import threading
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from palimpsest.errors import AlreadyExists, Reason
from services.datastore.index.indexes import FaissIndexes, Indexes, QdrantIndexes
from services.datastore.store.corpus import Corpus
from services.datastore.store.keystore import KeyStore
from services.datastore.store.manifest import CURRENT, CorpusSpec, not_found

if TYPE_CHECKING:
    from qdrant_client import QdrantClient

_PLAIN = re.compile(r"[a-zA-Z0-9_-]{1,40}")
KEYS = "keys"


class OpenCorpus(NamedTuple):
    """A corpus and its token keys."""

    corpus: Corpus
    keys: KeyStore


class CorpusCatalogue:
    """The corpora of an installation. Methods block, and may be called from any thread.

    Parameters
    ----------
    root
        Holds a folder for each tenant; created when needed.
    key_bytes
        Limit on the token keys of one corpus, in bytes; 0 for no limit.
    qdrant
        The Qdrant server that searches passage vectors; None to search the corpus's own files.
    """

    def __init__(self, root: Path, key_bytes: int = 0, qdrant: "QdrantClient | None" = None) -> None:
        self._root, self._key_bytes, self._qdrant = root, key_bytes, qdrant
        self._lock = threading.Lock()
        self._open: dict[Path, tuple[int, OpenCorpus]] = {}

    def create(self, tenant: str, spec: CorpusSpec) -> OpenCorpus:
        """Create a corpus; return the existing corpus if it has the same spec.

        Raises
        ------
        AlreadyExists
            CORPUS_EXISTS: a corpus with another spec has this id.
        """
        folder = self._folder(tenant, spec.corpus)
        folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not folder.exists():
            new = folder.parent / f".making-{uuid.uuid4().hex}"
            try:
                new.mkdir()
                Corpus.create(new, spec).close()
                new.rename(folder)
            except OSError:
                if not folder.exists():  # or else another process has created it first
                    raise
            finally:
                shutil.rmtree(new, ignore_errors=True)
        found = self.open(tenant, spec.corpus)
        if not found.corpus.spec.same_as(spec):
            raise AlreadyExists(
                Reason.CORPUS_EXISTS,
                f"corpora/{spec.corpus} already exists with another model, encoder, passage length or labels. Use "
                "another id, or delete the existing corpus.",
                metadata={"corpus": spec.corpus},
            )
        return found

    def open(self, tenant: str, corpus_id: str) -> OpenCorpus:
        """Open a corpus.

        Raises
        ------
        NotFound
            CORPUS_NOT_FOUND: it does not exist, or belongs to another tenant.
        DataLoss
            CORPUS_DAMAGED.
        """
        folder = self._folder(tenant, corpus_id)
        with self._lock:
            try:
                identity = os.stat(folder).st_ino
            except FileNotFoundError:
                self._forget(folder)
                raise not_found(corpus_id) from None
            known = self._open.get(folder)
            if known is not None and known[0] == identity:
                return known[1]
            self._forget(folder)  # deleted and created again
            corpus = Corpus(folder, self._indexes(folder))
            keys = KeyStore(folder / KEYS, corpus.spec.model_fingerprint, self._key_bytes)
            self._open[folder] = identity, OpenCorpus(corpus, keys)
            return self._open[folder][1]

    def ids(self, tenant: str) -> list[str]:
        """Ids of a tenant's corpora, sorted."""
        folder = self._root / tenant_folder(tenant)
        if not folder.is_dir():
            return []
        return sorted(p.name for p in folder.iterdir() if p.name[0] != "." and (p / CURRENT).exists())

    def delete(self, tenant: str, corpus_id: str) -> None:
        """Delete a corpus and its files.

        Raises
        ------
        NotFound
            CORPUS_NOT_FOUND.
        """
        folder = self._folder(tenant, corpus_id)
        deleted = folder.parent / f".deleted-{uuid.uuid4().hex}"
        opened = self.open(tenant, corpus_id) if self._qdrant is not None else None
        try:
            folder.rename(deleted)
        except FileNotFoundError:
            raise not_found(corpus_id) from None
        with self._lock:
            self._forget(folder)
        if opened is not None:
            for entry in opened.corpus.manifest.segments:
                opened.corpus.indexes.drop(entry.name)
        shutil.rmtree(deleted, ignore_errors=True)

    def close(self) -> None:
        """Close all open corpora."""
        with self._lock:
            for folder in list(self._open):
                self._forget(folder)

    def _indexes(self, folder: Path) -> Indexes:
        if self._qdrant is None:
            return FaissIndexes()
        spec = CorpusSpec.read(folder)
        # The creation time keeps a corpus apart from a deleted one of the same id.
        return QdrantIndexes(self._qdrant, f"{folder.parent.name}/{spec.corpus}/{spec.created}", spec.dim)

    def _forget(self, folder: Path) -> None:
        known = self._open.pop(folder, None)
        if known is not None:
            known[1].corpus.close()

    def _folder(self, tenant: str, corpus_id: str) -> Path:
        return self._root / tenant_folder(tenant) / corpus_id


def tenant_folder(tenant: str) -> str:
    """A folder name unique to a tenant, whatever characters the tenant's name has."""
    digest = hashlib.sha256(tenant.encode()).hexdigest()[:16]
    return f"{tenant}-{digest}" if _PLAIN.fullmatch(tenant) else digest


def id_of(name: str) -> str:
    """The id in ``corpora/{id}``."""
    return name.removeprefix("corpora/")


def files_size(folder: Path) -> int:
    """Total size of the files under a folder, in bytes."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except FileNotFoundError:
            continue
    return total
