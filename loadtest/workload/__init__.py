"""Workloads from a seed, pure: when requests arrive, and what they share."""

from loadtest.workload.arrivals import constant, gamma, poisson
from loadtest.workload.chats import chats
from loadtest.workload.prefixes import shared_prefixes
from loadtest.workload.swarms import swarm

__all__ = ["chats", "constant", "gamma", "poisson", "shared_prefixes", "swarm"]
