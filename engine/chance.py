"""The one source of chance in sampling: a uniform draw that depends on (seed, position) alone.

Counter-based (Philox4x64-10; Salmon et al., SC'11), so there is no state to hand over: a
stream that moves to another worker, or is resumed after a crash, draws what it would have drawn.
"""

import numpy as np


def uniform(seed: int, position: int) -> float:
    """A float in [0, 1) for the token at absolute ``position`` >= 0; only the seed's low 64 bits count."""
    philox = np.random.Philox(key=seed & 0xFFFF_FFFF_FFFF_FFFF, counter=position)
    return float(philox.random_raw() >> 11) * 2.0**-53
