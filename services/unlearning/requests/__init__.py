"""Records of removal requests: what is stored of each, the lines in which they wait, and the state that follows."""
