"""Requests that quote corpora: candidate blocks fetched, deletions heeded, spans told."""
