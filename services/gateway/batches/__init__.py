"""Files and batches: what is kept of them in artefacts, and lines in OpenAI's form and in the contract's."""
