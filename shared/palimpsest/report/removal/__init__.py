"""What a removal request found, for readers: targets of its numbers, and a page."""
