"""The data sets of a request: read, packed, and compared with each other."""
