"""``palimpsest corpus``: the commands on corpora."""
