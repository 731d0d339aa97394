"""What of the drafts is shown while they are made, and how what is shown becomes what they end as."""

from collections.abc import Sequence

from palimpsest.decoding.drafts.events import DraftDelta
from palimpsest.decoding.drafts.hypotheses import Hypothesis, shared_length


class Slots:
    """The k places in which drafts are shown.

    A draft stays in its place as long as it lives. One whose parent's place is taken, by a better child, moves to a
    place that has become free, and rewrites what stood there from where they differ.
    """

    def __init__(self, count: int) -> None:
        self._text = [""] * count
        self._ids: list[tuple[int, ...]] = [()] * count

    def show(self, drafts: Sequence[Hypothesis], clear: bool = True) -> list[DraftDelta]:
        """Show drafts, best first and no more than there are places; gives each its slot.

        Places that are left over are cleared, or left as they are.

        Returns
        -------
        list of DraftDelta
            What has changed.
        """
        free, waiting = set(range(len(self._text))), []
        for draft in drafts:
            if draft.slot in free:
                free.remove(draft.slot)
            else:
                waiting.append(draft)
        for draft in waiting:  # where it differs least from what is there
            draft.slot = min(free, key=lambda slot: (-shared_length(self._ids[slot], draft.ids), slot))
            free.remove(draft.slot)
        changes = [self._put(draft.slot, draft.text.text, draft.ids) for draft in drafts]
        if clear:
            changes += [self._put(slot, "", ()) for slot in sorted(free)]
        return [change for change in changes if change is not None]

    def show_common(self, drafts: Sequence[Hypothesis]) -> list[DraftDelta]:
        """Show in all places what all these drafts begin with."""
        text, ids = drafts[0].text.text, drafts[0].ids
        for draft in drafts[1:]:
            text = text[: shared_length(text, draft.text.text)]
            ids = ids[: shared_length(ids, draft.ids)]
        changes = [self._put(slot, text, ids) for slot in range(len(self._text))]
        return [change for change in changes if change is not None]

    def _put(self, slot: int, text: str, ids: tuple[int, ...]) -> DraftDelta | None:
        keep, chars = shared_length(self._ids[slot], ids), shared_length(self._text[slot], text)
        if keep == len(self._ids[slot]) == len(ids) and chars == len(self._text[slot]) == len(text):
            return None
        self._text[slot], self._ids[slot] = text, ids
        return DraftDelta(slot, keep, chars, text[chars:], ids[keep:])
