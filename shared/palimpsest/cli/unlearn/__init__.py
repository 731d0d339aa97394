"""``palimpsest unlearn``: removal requests and their certificates."""
