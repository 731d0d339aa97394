"""A memory-mapped n-gram store: which tokens follow a context in its text, and how often."""

import mmap
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from palimpsest.errors import FailedPrecondition, Reason
from palimpsest.ngrams import kernels
from palimpsest.ngrams.layout import DIGEST, LONGEST, Layout, checksum, damaged, filler, read_layout

CONTEXT = LONGEST - 1
"""Tokens of the longest context."""


class NgramStore:
    """An open store; see ``open``. Thread-safe; searches release the GIL.

    Attributes
    ----------
    path
        The file. It may be deleted while the store is open.
    tokenizer
        Fingerprint of the tokenizer.
    vocab_size
        Ids are below this.
    tokens, documents
        Of the text that the store was built from.
    digest
        ``sha256:<hex>`` of the file without its last 32 bytes, which are this digest: equal for equal stores. The
        digest of the artefact that a store may be covers those too.
    size_bytes
        Of the file.
    """

    def __init__(
        self, path: Path, layout: Layout, digest: str, starts: np.ndarray, columns: np.ndarray
    ) -> None:
        self.path, self.digest, self.size_bytes = path, digest, layout.length
        self.tokenizer, self.vocab_size = layout.tokenizer, layout.vocab_size
        self.tokens, self.documents = layout.tokens, layout.documents
        self._starts, self._columns = starts, columns
        self._end = filler(layout.column_dtype)

    @classmethod
    def open(cls, path: str | Path, verify: bool = True, digest: str = "") -> "NgramStore":
        """Map a file.

        Costs a read of the header and the starts; with ``verify`` all of it is read once, a gigabyte in about a second.
        The system decides which pages stay in memory.

        Parameters
        ----------
        path
            A file that no process writes to.
        verify
            Compare the whole file with its checksum. Without it, what is read first is still checked: magic, version,
            header, length, and that the starts lead nowhere outside of the file.
        digest
            Expected SHA-256 of the whole file, ``sha256:<hex>``, if known; checked with ``verify`` only.

        Raises
        ------
        DataLoss
            NGRAMS_FORMAT_UNKNOWN: no store, or one of another version. NGRAMS_DAMAGED: cut or altered.
        FileNotFoundError
            There is no such file.
        """
        path = Path(path)
        with path.open("rb") as file:
            layout = read_layout(file, path)
            file.seek(-DIGEST, 2)
            footer = file.read(DIGEST)
            if verify:
                running = checksum(file, layout.length - DIGEST)
                if running.digest() != footer:
                    damaged(path, "its bytes do not match their checksum")
                running.update(footer)
                if digest not in ("", f"sha256:{running.hexdigest()}"):
                    damaged(path, "its digest is not the expected one")
            mapped = mmap.mmap(file.fileno(), layout.length, access=mmap.ACCESS_READ)
        starts = np.frombuffer(mapped, layout.start_dtype, layout.vocab_size + 1, layout.start_offset)
        columns = np.frombuffer(mapped, layout.column_dtype, CONTEXT * layout.tokens, layout.column_offset)
        if starts[0] != 0 or starts[-1] != layout.tokens or (starts[1:] < starts[:-1]).any():
            damaged(path, "its table of first tokens is altered")
        return cls(path, layout, f"sha256:{footer.hex()}", starts, columns.reshape(CONTEXT, layout.tokens))

    def require(self, tokenizer: str) -> None:
        """Refuse a store that was built with another tokenizer.

        Raises
        ------
        FailedPrecondition
            NGRAMS_TOKENIZER_MISMATCH.
        """
        if self.tokenizer != tokenizer:
            raise FailedPrecondition(
                Reason.NGRAMS_TOKENIZER_MISMATCH,
                f"The n-gram store {self.path.name[:19]} was built with the tokenizer {self.tokenizer[:19]}…, but the "
                f"model has {tokenizer[:19]}…. Build a store for this model: palimpsest ngrams build NAME "
                "--model MODEL.",
                metadata={"found": self.tokenizer, "expected": tokenizer},
            )

    def probabilities(
        self, contexts: np.ndarray, candidates: np.ndarray, weights: Sequence[float] | np.ndarray
    ) -> np.ndarray:
        """Weighted sums of the candidates' shares among the tokens after each draft (section 3 of the paper).

        Without smoothing, back-off or renormalisation: an order whose context is not in the text adds 0. Costs k * c
        * 5 times two binary searches, each within what the context leaves.

        Parameters
        ----------
        contexts
            int [k, 5]: the last five tokens of each draft, right-aligned, -1 where there is none.
        candidates
            int [c].
        weights
            float [5], for orders 2 to 6.

        Returns
        -------
        numpy.ndarray
            float64 [k, c].

        Raises
        ------
        ValueError
            Shapes that do not fit.
        """
        contexts = np.ascontiguousarray(contexts, dtype=np.int32)
        candidates = np.ascontiguousarray(candidates, dtype=np.int32)
        weights = np.ascontiguousarray(weights, dtype=np.float64)
        if (
            contexts.ndim != 2
            or contexts.shape[1] != CONTEXT
            or candidates.ndim != 1
            or weights.shape != (CONTEXT,)
        ):
            raise ValueError(
                f"contexts are [k, {CONTEXT}], candidates [c], weights [{CONTEXT}]; these are {contexts.shape}, "
                f"{candidates.shape}, {weights.shape}"
            )
        out = np.zeros((len(contexts), len(candidates)))
        kernels.mix(self._starts, self._columns, self._end, contexts, candidates, weights, out)
        return out

    def counts(self, context: Sequence[int] | np.ndarray, candidates: np.ndarray) -> tuple[np.ndarray, int]:
        """Count how often each candidate follows a context: n-grams of one order, ``len(context) + 1``.

        Parameters
        ----------
        context
            At most five ids; with none, single tokens are counted.
        candidates
            int [c].

        Returns
        -------
        tuple
            int64 [c], and how often anything follows the context.

        Raises
        ------
        ValueError
            The context is longer than five.
        """
        wanted = np.ascontiguousarray(candidates, dtype=np.int32)
        out = np.zeros(len(wanted), dtype=np.int64)
        total = kernels.count(self._starts, self._columns, self._end, _context(context), wanted, out)
        return out, int(total)

    def continuations(self, context: Sequence[int] | np.ndarray, limit: int) -> list[tuple[int, int]]:
        """Return what follows a context most often, with counts, the lower id first where they are equal.

        Costs a binary search for each different token that follows it.

        Raises
        ------
        ValueError
            The context is longer than five.
        """
        wanted = _context(context)
        if len(wanted):
            tokens, counts = np.zeros((2, self.vocab_size), dtype=np.int64)
            found = kernels.runs(self._starts, self._columns, self._end, wanted, tokens, counts)
            tokens, counts = tokens[:found], counts[:found]
        else:
            counts = np.diff(self._starts.astype(np.int64))
            tokens = np.flatnonzero(counts)
            counts = counts[tokens]
        order = np.lexsort((tokens, -counts))[:limit]
        return list(zip(tokens[order].tolist(), counts[order].tolist(), strict=True))

    def coverage(self, ids: Sequence[int] | np.ndarray, order: int = 3) -> float:
        """Share of the positions of a text where the store has something to say.

        Parameters
        ----------
        ids
            int [n]: the text.
        order
            1 to 6.

        Returns
        -------
        float
            Among the positions with ``order - 1`` tokens before them, those whose tokens before are followed by
            something in the store's text; 0 if there is no such position.

        Raises
        ------
        ValueError
            There is no such order.
        """
        if not 1 <= order <= LONGEST:
            raise ValueError(f"orders are 1 to {LONGEST}, not {order}")
        text = np.ascontiguousarray(ids, dtype=np.int32)
        positions = len(text) - (order - 1)
        if positions < 1:
            return 0.0
        return kernels.seen(self._starts, self._columns, self._end, text, order - 1) / positions


def _context(context: Sequence[int] | np.ndarray) -> np.ndarray:
    found = np.ascontiguousarray(context, dtype=np.int32)
    if found.ndim != 1 or len(found) > CONTEXT:
        raise ValueError(f"a context is at most {CONTEXT} tokens")
    return found
