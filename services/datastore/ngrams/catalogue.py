"""The catalogue of n-gram stores: summaries in Redis, the stores themselves as artefacts.

Keys, all under the installation's prefix, for each tenant:

``ngram-stores:<tenant>``  HASH: id -> record, JSON: ``store`` (the message), ``content``, ``owner``
``ngram-ids:<tenant>``     ZSET of ids, all with score 0, so they are sorted by their bytes

A record's owner is the name under which it holds a reference to its artefact. Every record has a new owner, so that a
store being deleted and one being built under the same id never remove each other's reference.
"""

import hashlib
import json
import uuid
from typing import NamedTuple

import redis
from google.protobuf import json_format

from palimpsest.api.datastore.v1 import datastore_pb2 as pb
from palimpsest.artifacts import ArtifactStore
from palimpsest.catalogue import Catalogue, Layout
from palimpsest.errors import AlreadyExists, NotFound, Reason
from services.datastore.store.listing import check_id_token


class _Record(NamedTuple):
    store: pb.NgramStore
    content: str
    owner: str

    def to_json(self) -> str:
        message = json_format.MessageToDict(self.store, preserving_proto_field_name=True)
        return json.dumps({"store": message, "content": self.content, "owner": self.owner})

    @classmethod
    def from_json(cls, data: str) -> "_Record":
        fields = json.loads(data)
        return cls(
            json_format.ParseDict(fields["store"], pb.NgramStore()), fields["content"], fields["owner"]
        )


class NgramCatalogue:
    """N-gram stores by tenant and id. Methods block, and may be called from any thread.

    Every method raises Unavailable (JOB_STORE_UNAVAILABLE) if Redis does not answer.
    """

    def __init__(self, client: redis.Redis, prefix: str, artifacts: ArtifactStore) -> None:
        self._redis, self._prefix, self._artifacts = client, prefix, artifacts

    def put(self, tenant: str, store: pb.NgramStore, content: str) -> pb.NgramStore:
        """Add a store whose artefact is stored; return the existing store if its content is the same.

        Parameters
        ----------
        tenant
            Owner of the store.
        store
            The complete message.
        content
            Digest of everything that determines the store; see ``content_of``.

        Raises
        ------
        AlreadyExists
            NGRAM_STORE_EXISTS: a store with other content has this id.
        """
        record = _Record(store, content, f"ngram-store/{tenant}/{id_of(store.name)}/{uuid.uuid4().hex}")
        self._artifacts.references.add(record.owner, [store.artifact], tenant)
        existing = self._of(tenant).put(id_of(store.name), record)
        if existing is None:
            return store
        self._artifacts.references.remove_owner(record.owner)
        if existing.content != content:
            raise exists(store.name)
        return existing.store

    def find(self, tenant: str, name: str, content: str) -> pb.NgramStore | None:
        """Return the existing store with this content; None if the id is free.

        Raises
        ------
        AlreadyExists
            NGRAM_STORE_EXISTS: a store with other content has this id.
        """
        found = self._of(tenant).find(id_of(name))
        if found is not None and found.content != content:
            raise exists(name)
        return found.store if found else None

    def get(self, tenant: str, name: str) -> pb.NgramStore:
        """Return a store by its name, ``ngramStores/{id}``.

        Raises
        ------
        NotFound
            NGRAM_STORE_NOT_FOUND: it does not exist, or belongs to another tenant.
        """
        return self._of(tenant).get(id_of(name)).store

    def list(self, tenant: str, page_size: int = 0, page_token: str = "") -> tuple[list[pb.NgramStore], str]:
        """One page of a tenant's stores by name, and the token of the next page; empty after the last.

        Raises
        ------
        InvalidArgument
            PAGE_TOKEN_INVALID.
        """
        check_id_token(page_token)
        records, token = self._of(tenant).list(page_size, page_token)
        return [record.store for record in records], token

    def delete(self, tenant: str, name: str) -> None:
        """Delete a store; its artefact can be garbage-collected unless something else refers to it.

        Raises
        ------
        NotFound
            NGRAM_STORE_NOT_FOUND.
        """
        self._artifacts.references.remove_owner(self._of(tenant).delete(id_of(name)).owner)

    def _of(self, tenant: str) -> Catalogue[_Record]:
        layout = Layout(
            index=f"{self._prefix}ngram-ids:{tenant}",
            row=lambda _: f"{self._prefix}ngram-stores:{tenant}",
            fields=lambda store_id: (store_id,),
            write=lambda record: (record.to_json(),),
            read=lambda values: _Record.from_json(values[0]),
            by_name=True,
        )
        return Catalogue(self._redis, layout, _not_found)


def content_of(**facts: object) -> str:
    """Digest of everything that determines a store: the text, its division into documents, and the tokenizer."""
    return hashlib.sha256(json.dumps({"format": 1, **facts}, sort_keys=True).encode()).hexdigest()


def id_of(name: str) -> str:
    """The id in ``ngramStores/{id}``."""
    return name.removeprefix("ngramStores/")


def exists(name: str) -> AlreadyExists:
    """Build the error for an id that is taken."""
    message = (
        f"{name} already exists with another text, tokenizer or labels (a corpus that has changed counts as another "
        "text). Use another id, or delete the existing store."
    )
    return AlreadyExists(Reason.NGRAM_STORE_EXISTS, message, metadata={"store": name})


def _not_found(store_id: str) -> NotFound:
    name = f"ngramStores/{store_id}"
    message = f"{name} does not exist. List your stores with `palimpsest ngrams list`, or build it."
    return NotFound(Reason.NGRAM_STORE_NOT_FOUND, message, metadata={"store": name})
