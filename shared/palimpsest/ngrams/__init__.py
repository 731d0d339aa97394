"""What follows what in a corpus: exact counts of all its n-grams, in one flat file that is mapped, never loaded.

::

    build_store   token ids of documents -> a file; memory bounded by one bucket, whatever the corpus
    NgramStore    the file, checked and mapped: probabilities, counts, continuations, coverage
    open_store    the same of an artefact, by its digest
    StoreShelf    the few stores that a server has open

After section 4 of Superposed Decoding (Shen et al., 2024, arXiv 2405.18400), whose n-gram models these are; layout,
look-ups and file format are our own. Imports numpy and numba, and neither torch nor grpc.
"""

from palimpsest.ngrams.building import build_store
from palimpsest.ngrams.layout import LONGEST, ORDERS
from palimpsest.ngrams.opening import StoreCache, open_store
from palimpsest.ngrams.store import NgramStore

__all__ = ["LONGEST", "ORDERS", "NgramStore", "StoreCache", "build_store", "open_store"]
