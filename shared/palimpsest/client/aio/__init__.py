"""The asyncio client. The blocking one is made from these modules by deploy/client.py."""
