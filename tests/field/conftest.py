"""A gateway of the tests' own, for tables of what clients send."""

from tests.services.gateway.conftest import cluster, gateway, text

__all__ = ["cluster", "gateway", "text"]
