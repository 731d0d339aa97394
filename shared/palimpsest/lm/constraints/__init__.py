"""What constrains the next token beyond the distribution's shape: penalties, biases, forbidden tokens, grammars."""
