"""Building a store in bounded memory; see ``sorting`` for how windows are sorted."""

import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from palimpsest.errors import FailedPrecondition, InvalidArgument, Reason
from palimpsest.ngrams.layout import DIGEST, LONGEST, Layout, checksum, column_dtype, filler
from palimpsest.ngrams.sorting import Sorting
from palimpsest.progress import NullProgress, Progress

BUCKET = 1 << 20
"""Windows sorted at once; they take about 50 bytes of memory each, 80 with a vocabulary above 65,535."""


def build_store(
    documents: Iterable[np.ndarray | Sequence[int]],
    path: str | Path,
    *,
    tokenizer: str,
    vocab_size: int,
    progress: Progress | None = None,
    bucket: int = BUCKET,
) -> Layout:
    """Write a store of documents' n-grams; the same documents in any order give the same bytes.

    Costs about 34 bytes of disk for each token while it runs (68 with a vocabulary above 65,535), in the folder of the
    file, and about a second of one core for a million tokens. Memory: one document, and one bucket.

    Parameters
    ----------
    documents
        Token ids of each, int [n], without special tokens.
    path
        Replaced atomically.
    tokenizer
        Fingerprint of the tokenizer.
    vocab_size
        Ids are below this.
    progress
        Receives progress: documents, then tokens sorted. May raise at each document and bucket to stop.
    bucket
        Windows sorted at once.

    Returns
    -------
    Layout
        What the file's header says.

    Raises
    ------
    InvalidArgument
        TOKEN_ID_OUT_OF_RANGE.
    FailedPrecondition
        NGRAMS_EMPTY: there is not one token.
    """
    path, progress = Path(path), progress or NullProgress()
    dtype = column_dtype(vocab_size)
    with tempfile.TemporaryDirectory(prefix=".ngrams-", dir=path.parent) as scratch:
        windows = Path(scratch) / "windows"
        starts, count = _collect(documents, windows, vocab_size, dtype, progress)
        if not count:
            raise FailedPrecondition(
                Reason.NGRAMS_EMPTY, "There is no text to count n-grams of. Add documents, or send a text."
            )
        layout = Layout(tokenizer, vocab_size, int(starts[-1]), count)
        partial = Path(scratch) / "store"
        with partial.open("wb+") as file:
            file.write(layout.to_bytes())
            file.write(starts.astype(layout.start_dtype).tobytes())
            written = 0
            for block in Sorting(dtype, vocab_size, bucket, progress.check).run(windows):
                _write(file, layout, block, written)
                written += len(block)
                progress.step(written, layout.tokens, "sorting n-grams")
            file.flush()
            footer = checksum(file, layout.length - DIGEST).digest()
            file.seek(layout.length - DIGEST)
            file.write(footer)
        partial.replace(path)
    return layout


def _collect(
    documents: Iterable[np.ndarray | Sequence[int]],
    path: Path,
    vocab_size: int,
    dtype: np.dtype,
    progress: Progress,
) -> tuple[np.ndarray, int]:
    """Write every document's windows to a file; returns the starts, int64 [vocab_size + 1], and the documents."""
    first = np.zeros(vocab_size + 1, dtype=np.int64)
    count = 0
    with path.open("wb") as file:
        for number, document in enumerate(documents):
            progress.step(number, 0, "collecting n-grams")
            ids = _checked(document, vocab_size)
            file.write(_windows(ids, dtype).data)  # not tofile: its error does not say that the disk is full
            np.add.at(first, ids + 1, 1)
            count += len(ids) > 0
    return np.cumsum(first), count


def _checked(document: np.ndarray | Sequence[int], vocab_size: int) -> np.ndarray:
    ids = np.asarray(document, dtype=np.int64)
    if len(ids) and not 0 <= int(ids.min()) <= int(ids.max()) < vocab_size:
        wrong = int(ids[(ids < 0) | (ids >= vocab_size)][0])
        raise InvalidArgument(
            Reason.TOKEN_ID_OUT_OF_RANGE,
            f"{wrong} is no token id of a vocabulary of {vocab_size}. Use the tokenizer the text was cut with.",
            metadata={"token": wrong, "vocab_size": vocab_size},
        )
    return ids


def _windows(ids: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Every window of a document, [n, 6], padded at its end."""
    padded = np.full(len(ids) + LONGEST, filler(dtype), dtype=dtype)
    padded[: len(ids)] = ids
    return np.ascontiguousarray(np.lib.stride_tricks.sliding_window_view(padded, LONGEST)[: len(ids)])


def _write(file: BinaryIO, layout: Layout, block: np.ndarray, at: int) -> None:
    """Write sorted windows, [n, 6], into the columns from row ``at`` on; the first token is in the starts."""
    size = layout.column_dtype.itemsize
    for number in range(LONGEST - 1):
        file.seek(layout.column_offset + size * (number * layout.tokens + at))
        file.write(np.ascontiguousarray(block[:, number + 1]).tobytes())
