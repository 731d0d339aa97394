"""Catalogues over Redis: entries by id, added and deleted in one step with everything that refers to them, and paged.

A room that keeps a list of something (contexts, models, requests) describes how an entry is stored and gets
``put``, ``find``, ``get``, ``list``, ``update`` and ``delete``::

    class Requests:
        def __init__(self, client: redis.Redis, prefix: str) -> None:
            self._entries = Catalogue(
                client,
                Layout(
                    index=f"{prefix}requests",
                    row=lambda request_id: f"{prefix}request:{request_id}",
                    write=lambda request: [request.to_json()],
                    read=lambda fields: Request.from_json(fields[0]),
                ),
                missing=lambda request_id: NotFound(Reason.MODEL_NOT_FOUND, f"There is no {request_id}."),
            )

Stored form
-----------
``<index>``
    ZSET of ids. By order of creation the scores count up from 1; by name all scores are 0 and ids are ordered by
    their bytes.
``<index>:next``
    STRING: the score given last. Only by order of creation.
``<row(id)>``
    HASH with the fields of one entry; several entries may share one hash under different fields.

An entry may have :class:`Links`: members of sets and counts in hashes that come and go with it, entries that have to be
there when it is added, and a set that keeps it from being deleted. Each change is one script, so that an entry
is there with all its links or not at all, and of two changes made at the same moment one wins whole.

Entries of one owner are kept apart from those of others by giving each owner a layout of its own: put the owner into
``index`` and ``row`` (:func:`quoted` makes a name safe for a key). A catalogue costs nothing to make.
"""

from palimpsest.catalogue.entries import MOST_PER_PAGE, PAGE_SIZE, Catalogue
from palimpsest.catalogue.layout import Layout, Links
from palimpsest.catalogue.principals import LOCAL, quoted

__all__ = ["LOCAL", "MOST_PER_PAGE", "PAGE_SIZE", "Catalogue", "Layout", "Links", "quoted"]
