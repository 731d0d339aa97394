"""Requests for drafts: planned, tuned, told."""
