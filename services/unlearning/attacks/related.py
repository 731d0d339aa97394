"""What an attack that trains on a part of the forget set gives away of the rest: items that are not to be measured.

An item of the same document, or one that says nearly the same, is taught by the attack itself: that it is known
afterwards says nothing of what the model still held.
"""

import re
from collections import Counter
from collections.abc import Collection, Mapping

from services.unlearning.corpora.overlap import MOST_SHARED, find_overlaps
from services.unlearning.corpora.records import Document

WORDS = 3
"""Words of a piece, of entries too short for the pieces that documents are compared by."""
SHORT = 40
"""Entries of fewer words are short: questions, above all."""
MOST_ALIKE = 0.5
"""Share of a short entry's own pieces that may be in another."""
FEW = 4
"""Entries, or a hundredth of them if that is more, that may share a piece: one that more have is a form of words."""
_WORD = re.compile(r"\w+")


def related(
    relearned: Collection[str], texts: Mapping[str, str], documents: Mapping[str, str] | None = None
) -> set[str]:
    """Names of the entries that training on some of them tells of, these themselves included.

    Parameters
    ----------
    relearned
        Names of the entries that are trained on.
    texts
        What every entry says, by its name: a question with its answer.
    documents
        For questions, the document each is about; questions about one document belong together, and with it.

    Returns
    -------
    set of str
        The relearned entries; those of the same documents; and near duplicates: documents that share more than a fifth
        of their sequences of 13 words with the relearned ones, as forget and retain sets are compared, and two short
        entries more than half of whose sequences of three words, forms of words left out, are in both.
    """
    groups = {name: (documents or {}).get(name) or name for name in texts}
    taught = {groups[name] for name in relearned}
    found = {name for name in texts if groups[name] in taught}
    rest = [Document(id=name, split="forget", text=text) for name, text in texts.items() if name not in found]
    sources = [Document(id=name, split="retain1", text=texts[name]) for name in sorted(found)]
    found |= {each.document for each in find_overlaps(rest, sources) if each.share > MOST_SHARED}
    pieces = {name: _pieces(text) for name, text in texts.items()}
    counts = Counter(piece for own in pieces.values() for piece in own)
    forms = {piece for piece, count in counts.items() if count > max(FEW, len(texts) // 100)}
    own = {name: those - forms for name, those in pieces.items() if len(those) < SHORT}
    learned = [own[name] for name in sorted(relearned) if own.get(name)]
    found |= {each.id for each in rest if any(_alike(own.get(each.id, set()), other) for other in learned)}
    return found


def _alike(first: set[tuple[str, ...]], second: set[tuple[str, ...]]) -> bool:
    """Whether more than half of the pieces of one, whichever has fewer, are in the other: it may say more beside."""
    return len(first & second) > MOST_ALIKE * min(len(first), len(second))


def _pieces(text: str) -> set[tuple[str, ...]]:
    words = _WORD.findall(text.casefold())
    size = min(WORDS, len(words))
    return {tuple(words[at : at + size]) for at in range(len(words) - size + 1)} if size else set()
