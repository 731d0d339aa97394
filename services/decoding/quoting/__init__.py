"""Requests that quote corpora: candidate blocks, deletions, spans and scores."""
