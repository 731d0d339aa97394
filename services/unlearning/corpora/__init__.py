"""Data sets of removal: generated, imported, read, written and checked."""

from palimpsest.training.base_model import ModelShape, write_base_model
from services.unlearning.corpora.authors import build_authors, split_authors
from services.unlearning.corpora.building import build_books, build_news
from services.unlearning.corpora.corpus import Corpus
from services.unlearning.corpora.files import decode_rows, encode_rows, read_corpus, write_corpus
from services.unlearning.corpora.generic import GenericCorpus, build_generic
from services.unlearning.corpora.importers import muse_documents, muse_questions, muse_verbatim, tofu_pairs
from services.unlearning.corpora.overlap import Overlap, find_overlaps, require_no_overlap
from services.unlearning.corpora.records import AuthorPair, Document, Excerpt, Question, Split, Verbatim
from services.unlearning.corpora.sizes import REAL, SMALL, TINY, Sizes

__all__ = [
    "REAL",
    "SMALL",
    "TINY",
    "AuthorPair",
    "Corpus",
    "Document",
    "Excerpt",
    "GenericCorpus",
    "ModelShape",
    "Overlap",
    "Question",
    "Sizes",
    "Split",
    "Verbatim",
    "build_authors",
    "build_books",
    "build_generic",
    "build_news",
    "decode_rows",
    "encode_rows",
    "find_overlaps",
    "muse_documents",
    "muse_questions",
    "muse_verbatim",
    "read_corpus",
    "require_no_overlap",
    "split_authors",
    "tofu_pairs",
    "write_base_model",
    "write_corpus",
]
