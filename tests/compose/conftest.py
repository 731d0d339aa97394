"""The containers, as the integration suite sees them."""

from tests.integration.conftest import readable_by_servers, stack

__all__ = ["readable_by_servers", "stack"]
