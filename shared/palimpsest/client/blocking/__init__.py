"""The blocking client. deploy/client.py makes it from the asyncio one; only flavour.py is written by hand."""
