"""A study of grafting on the sample model: facts that it was fine-tuned on, and facts that were planted in it."""
