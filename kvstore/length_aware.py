"""Like LFU, but of blocks used equally often the one that lies deepest in its prefix goes first.

The paper's LengthAwareCache (arXiv 2407.00079, section 4.2): later blocks of a request are
worth less than those everything after them depends on.
"""

from kvstore.lfu import LeastFrequentlyUsed
from kvstore.ranked import Rank


class LengthAware(LeastFrequentlyUsed):
    """By uses, then by depth, then by the last use."""

    def _rank(self, uses: int, stamp: int, depth: int) -> Rank:
        return uses, -depth, stamp
