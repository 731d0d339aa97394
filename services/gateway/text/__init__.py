"""Generation as every endpoint of it needs it: fields of requests, events of streams, tokens as text."""
