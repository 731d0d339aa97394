"""Requests for drafts: messages, planning, tuning."""
