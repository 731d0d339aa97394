"""What a sweep of grafts found, for readers: maps of layers and tokens, paths of recall, pictures and columns."""
