"""Palimpsest: serve open-weight language models, and look after what they hold."""
