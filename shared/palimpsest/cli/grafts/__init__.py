"""What commands that graft share, and those that came later than ``graft.py`` has room for."""
