"""Requests that continue stored contexts."""
