"""N-gram stores: exact counts of all n-grams of a corpus, in one flat file that is memory-mapped.

::

    build_store   token ids of documents -> a file; memory bounded by one bucket, whatever the size of the corpus
    NgramStore    the file, checked and mapped: probabilities, counts, continuations, coverage
    open_store    opens the store in an artefact, by digest
    StoreCache    the few stores that a server has open

The n-gram models are those of section 4 of Superposed Decoding (Shen et al., 2024, arXiv 2405.18400); layout, look-ups
and file format are our own. Imports numpy and numba, and neither torch nor grpc.
"""

from palimpsest.ngrams.building import build_store
from palimpsest.ngrams.layout import LONGEST, ORDERS
from palimpsest.ngrams.opening import StoreCache, open_store
from palimpsest.ngrams.store import NgramStore

__all__ = ["LONGEST", "ORDERS", "NgramStore", "StoreCache", "build_store", "open_store"]
