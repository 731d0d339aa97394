"""Which draft is shown in which slot while the drafts grow."""

from collections.abc import Sequence

from palimpsest.decoding.drafts.events import DraftDelta
from palimpsest.decoding.drafts.hypotheses import Hypothesis, shared_length


class Slots:
    """The k slots in which drafts are shown.

    A draft keeps its slot while it lives. If a better sibling has taken its parent's slot, it moves to a free slot and
    rewrites that slot's text from the first difference on.
    """

    def __init__(self, count: int) -> None:
        self._text = [""] * count
        self._ids: list[tuple[int, ...]] = [()] * count

    def show(self, drafts: Sequence[Hypothesis], clear: bool = True) -> list[DraftDelta]:
        """Show at most k drafts, best first, and assign each its slot; other slots are cleared if ``clear``.

        Returns
        -------
        list of DraftDelta
            The changes.
        """
        free, waiting = set(range(len(self._text))), []
        for draft in drafts:
            if draft.slot in free:
                free.remove(draft.slot)
            else:
                waiting.append(draft)
        for draft in waiting:  # where it differs least from the present text
            draft.slot = min(free, key=lambda slot: (-shared_length(self._ids[slot], draft.ids), slot))
            free.remove(draft.slot)
        changes = [self._put(draft.slot, draft.text.text, draft.ids) for draft in drafts]
        if clear:
            changes += [self._put(slot, "", ()) for slot in sorted(free)]
        return [change for change in changes if change is not None]

    def show_common(self, drafts: Sequence[Hypothesis]) -> list[DraftDelta]:
        """Show the common prefix of the drafts in all slots."""
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
