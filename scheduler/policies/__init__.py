"""How prefill workers are ranked, one policy a file; the names are those of the command line."""

from random import Random

from scheduler.policies.kvcache_centric import KvCacheCentric
from scheduler.policies.least_loaded import LeastLoaded
from scheduler.policies.local_cache import LocalCache
from scheduler.policies.longest_prefix import LongestPrefix
from scheduler.policies.policy import Policy
from scheduler.policies.random import RandomChoice

POLICIES = ("kvcache-centric", "local-cache", "least-loaded", "longest-prefix", "random")

__all__ = [
    "POLICIES",
    "KvCacheCentric",
    "LeastLoaded",
    "LocalCache",
    "LongestPrefix",
    "Policy",
    "RandomChoice",
    "policy",
]


def policy(name: str, rng: Random) -> Policy:
    """The policy of that name; raises ValueError where there is none."""
    match name:
        case "kvcache-centric":
            return KvCacheCentric()
        case "local-cache":
            return LocalCache()
        case "least-loaded":
            return LeastLoaded()
        case "longest-prefix":
            return LongestPrefix()
        case "random":
            return RandomChoice(rng)
        case _:
            raise ValueError(f"no policy is called {name!r}; there are {', '.join(POLICIES)}")
