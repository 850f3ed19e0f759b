"""Minibatches put together, for comparison with one that holds all of their examples."""

from collections.abc import Sequence

import numpy as np

from nnet.egs.minibatches import Minibatch


def joined(minibatches: Sequence[Minibatch]) -> Minibatch:
    """Join minibatches whose frames are not compressed."""
    first = np.cumsum([0, *map(len, minibatches)], dtype=np.int32)
    return Minibatch(
        np.concatenate([m.frames for m in minibatches]),
        np.concatenate([m.rows + begin for m, begin in zip(minibatches, first, strict=False)]),
        np.concatenate([m.pdfs for m in minibatches]),
        np.concatenate([m.weights for m in minibatches]),
    )
