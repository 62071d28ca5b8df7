"""Sizes of the trees in a timed pass. Knows no clocks and no models."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def skewed_sizes(batch: int, tokens: int) -> NDArray[np.int64]:
    """Tokens of each request's tree, int64 [batch], roots included; they sum to `tokens`.

    Drafted tokens are shared out as skewed as where trees are chosen jointly over a batch: most
    requests get few and a few get most, by the quantiles of an exponential distribution. Padding
    goes by the largest tree, so passes of equal trees would be up to a tenth too fast. The largest
    come in the middle: of requests in the order of their contexts, those of average length.
    """
    share = np.arange(1, batch) / batch
    lorenz = np.concatenate([[0.0], share + (1 - share) * np.log1p(-share), [1.0]])
    ascending = 1 + np.diff(np.round((tokens - batch) * lorenz)).astype(np.int64)
    return np.concatenate([ascending[::2], ascending[1::2][::-1]])
