"""Lists that come in pages, read to their end."""

from collections.abc import Callable
from typing import Any

_PAGE = 1000


def all_pages(call: Callable[..., Any], field: str, **asked: object) -> list[Any]:
    """Return what every page of a list call has in ``field``, in order.

    ``asked`` are the call's further fields: ``all_pages(client.models.list_models, "models")``.
    """
    found: list[Any] = []
    token = ""
    while True:
        page = call(page_size=_PAGE, page_token=token, **asked)
        found += getattr(page, field)
        token = page.next_page_token
        if not token:
            return found
