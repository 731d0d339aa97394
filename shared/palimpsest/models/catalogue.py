"""The catalogue of registered models, in Redis.

Keys, all under the installation's prefix:

``models``              ZSET of model ids in the order of registration
``models:next``         the number given last in that order
``model:<id>``          HASH: ``record`` (JSON), ``fingerprint``, ``parent``, ``path``
``model:<id>:children`` SET of ids that name this model as their parent

Each change is one step of :mod:`palimpsest.catalogue`, so two registrations of one id, or a deletion and the
registration of a child, cannot both win.
"""

from contextlib import suppress
from dataclasses import dataclass, replace
from typing import cast

import redis

from palimpsest.catalogue import Catalogue, Layout, Links
from palimpsest.errors import AlreadyExists, FailedPrecondition, NotFound, Reason
from palimpsest.models.record import ModelRecord
from palimpsest.redis import translated


@dataclass(frozen=True)
class Lineage:
    """Where a model comes from and what was made from it: parents nearest first, and direct children."""

    ancestors: list[ModelRecord]
    children: list[ModelRecord]


class ModelCatalogue:
    """Registered models by id; blocks, and may be called from any thread.

    Every method raises Unavailable (JOB_STORE_UNAVAILABLE) if Redis does not answer.
    """

    def __init__(self, client: redis.Redis, prefix: str) -> None:
        self._redis, self._prefix = client, prefix
        layout = Layout(
            index=f"{prefix}models",
            row=lambda model_id: f"{prefix}model:{model_id}",
            fields=lambda _: ("record", "fingerprint", "parent", "path"),
            write=lambda record: (record.to_json(), record.fingerprint, record.parent, record.path),
            read=lambda values: replace(ModelRecord.from_json(values[0]), path=values[3]),
            links=self._links,
        )
        self._entries: Catalogue[ModelRecord] = Catalogue(client, layout, _not_found, _has_children)

    def put(self, record: ModelRecord) -> ModelRecord:
        """Add a model; if the id is there with the same content, return what is there.

        Raises
        ------
        AlreadyExists
            MODEL_EXISTS: the id names a model with another fingerprint.
        NotFound
            MODEL_NOT_FOUND: the parent is not registered.
        """
        while True:
            there = self._entries.put(record.model_id, record)
            if there is None:
                return record
            if there.fingerprint != record.fingerprint:
                message = f"{record.model_id!r} names a model with other content. Use another id, or delete that one."
                facts = {"registered": there.fingerprint, "offered": record.fingerprint}
                raise AlreadyExists(Reason.MODEL_EXISTS, message, metadata=facts)
            with suppress(NotFound):  # deleted at this moment: add it again
                # The same content, perhaps moved on the disk since: the path just checked is the one that holds.
                return self._entries.update(record.model_id, lambda found: replace(found, path=record.path))

    def get(self, model_id: str) -> ModelRecord:
        """Look a model up.

        Raises
        ------
        NotFound
            MODEL_NOT_FOUND.
        """
        return self._entries.get(model_id)

    def list(self, page_size: int = 0, page_token: str = "") -> tuple[list[ModelRecord], str]:
        """One page of models, oldest first, and the token of the next; empty after the last.

        Raises
        ------
        InvalidArgument
            PAGE_TOKEN_INVALID.
        """
        return self._entries.list(page_size, page_token)

    def delete(self, model_id: str) -> ModelRecord:
        """Forget a model and return what it was; its files are the caller's business.

        Raises
        ------
        NotFound
            MODEL_NOT_FOUND.
        FailedPrecondition
            MODEL_HAS_CHILDREN: another model names it as its parent.
        """
        return self._entries.delete(model_id)

    def lineage(self, model_id: str) -> Lineage:
        """Where a model comes from, and what was made from it.

        Raises
        ------
        NotFound
            MODEL_NOT_FOUND.
        """
        record = self.get(model_id)
        ancestors: list[ModelRecord] = []
        while record.parent:
            record = self.get(record.parent)
            ancestors.append(record)
        with translated():
            children = cast(set[bytes], self._redis.smembers(self._children(model_id)))
        return Lineage(ancestors, self._entries.find_all(sorted(child.decode() for child in children)))

    def uses(self, path: str) -> bool:
        """Say whether any registered model lies in this folder."""
        return any(record.path == path for record in self._entries.find_all(self._entries.ids()))

    def _links(self, record: ModelRecord) -> Links:
        parent = [record.parent] if record.parent else []
        return Links(
            members=[(self._children(each), record.model_id) for each in parent],
            needs=parent,
            held_by=self._children(record.model_id),
        )

    def _children(self, model_id: str) -> str:
        return f"{self._prefix}model:{model_id}:children"


def _has_children(model_id: str, children: list[str]) -> FailedPrecondition:
    names = ", ".join(children)
    message = f"{model_id!r} is the parent of {names}. Delete those first."
    return FailedPrecondition(Reason.MODEL_HAS_CHILDREN, message, metadata={"children": names})


def _not_found(model_id: str) -> NotFound:
    message = (
        f"There is no model {model_id!r}. `palimpsest models list` shows those there are; register it first."
    )
    return NotFound(Reason.MODEL_NOT_FOUND, message, metadata={"model": model_id})
