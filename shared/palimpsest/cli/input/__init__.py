"""What commands are given: files and standard input, ids by their first characters."""
