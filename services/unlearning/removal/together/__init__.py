"""One training run for several requests that are alike: who is in it, its union of data, its weights taken over."""
