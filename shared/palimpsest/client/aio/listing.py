"""Lists that come in pages, as one thing to iterate over."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Generic, TypeVar

from google.protobuf.message import Message

from palimpsest.client.notebooks import messages_table

T = TypeVar("T")


class AsyncListing(Generic[T]):
    """A page of a list, which iterates over that page and all that follow it.

    It has the fields of the answer, such as ``models`` and ``next_page_token``, for those who turn pages themselves.

    Examples
    --------
    ``names = [model.model_id async for model in await client.models.list_models()]``
    """

    def __init__(self, page: Message, field: str, turn: Callable[[str], Awaitable[Message]]) -> None:
        self.page = page
        self._field = field
        self._turn = turn

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self.page, name)

    def __repr__(self) -> str:
        more = ", and more" if self.next_page_token else ""
        return f"<{type(self).__name__} of {len(self._items(self.page))} {self._field}{more}>"

    def _repr_html_(self) -> str:
        more = "<p>and more</p>" if self.next_page_token else ""
        return messages_table(self._items(self.page)) + more

    def _items(self, page: Message) -> Sequence[Any]:
        return getattr(page, self._field)

    async def __aiter__(self) -> AsyncIterator[T]:
        page: Any = self.page
        while True:
            items = self._items(page)
            for at in range(len(items)):
                yield items[at]
            if not page.next_page_token:
                return
            page = await self._turn(page.next_page_token)
