"""Running the whole of Palimpsest on one machine, with nothing installed beside it."""
