"""Mixing up: several outputs of the softmax for a pdf-id, whose probabilities are summed.

Comparable to the mixtures of Gaussians of a GMM: an output is split in two that each have half of
its probability, and that noise lets grow apart while training goes on.

Source: Kaldi's nnet2/mixup-nnet.{h,cc}, and GetSplitTargets() of gmm/model-common.cc.
"""

from __future__ import annotations

import heapq
import logging
import math

import numpy as np

from nnet.components.sum_group import SumGroupComponent
from nnet.errors import NgtrainError
from nnet.model.network import Network
from nnet.training.output_layer import OutputLayer

log = logging.getLogger("ngtrain")

LOG_HALF = math.log(0.5)


def mix_up(
    network: Network,
    num_mixtures: int,
    rng: np.random.Generator,
    *,
    power: float = 0.25,
    min_count: float = 1000.0,
    perturb_stddev: float = 0.01,
) -> None:
    """Split outputs of the softmax, in place, until there are `num_mixtures` in all.

    What the softmax has counted since its statistics were set to zero says how many outputs a
    pdf-id gets, see split_targets(), and which of them it is that is split: the most frequent.
    Where a FixedScaleComponent stands before the softmax, halves have the scale of the whole.

    Args:
        perturb_stddev: of the noise that is added to the weights of one half, and subtracted from
            those of the other.

    Raises:
        NgtrainError: the network ends otherwise, or has no counts.
    """
    layer = OutputLayer.of(network)
    old_counts = layer.softmax.value_sum.astype(np.float32)
    if not old_counts.sum() > 0:
        raise NgtrainError("cannot mix up without counts: the network has not been trained")
    if layer.groups is None:
        log.info("Adding SumGroupComponent to neural net.")
    old_sizes = np.array(layer.groups.sizes if layer.groups else [1] * layer.softmax.dim)
    old_starts = np.cumsum(old_sizes) - old_sizes
    occupancies = np.add.reduceat(old_counts, old_starts)
    sizes = np.maximum(split_targets(occupancies, num_mixtures, power, min_count), old_sizes)
    starts = np.cumsum(sizes) - sizes
    new_outputs = np.repeat(old_starts + old_sizes, sizes - old_sizes)  # behind those of a pdf-id
    old_scales = layer.scale.scales if layer.scale else np.ones_like(old_counts)
    old = old_counts, layer.affine.linear_params, layer.affine.bias_params, old_scales
    counts, weights, biases, scales = (np.insert(rows, new_outputs, 0, axis=0) for rows in old)
    for start, old_size, size in zip(starts, old_sizes, sizes, strict=True):
        for new in range(start + old_size, start + size):
            split = start + counts[start:new].argmax()
            halve(split, new, counts, weights, biases, scales)
            noise = rng.standard_normal(weights.shape[1], np.float32)
            weights[[split, new]] += perturb_stddev * np.stack([noise, -noise])

    layer.affine = layer.affine.with_fields(linear_params=weights, bias_params=biases)
    layer.scale = layer.scale and layer.scale.with_fields(scales=scales)
    layer.softmax = layer.softmax.with_fields(
        dim=len(counts),
        value_sum=counts.astype(np.float64),
        count=counts.sum(dtype=np.float64).item(),
    )
    layer.groups = SumGroupComponent(sizes=tuple(sizes.tolist()))
    network.set_components(layer.components)
    log.info(
        "Mixed up from dimension of %d to %d in the softmax layer.", len(old_counts), len(counts)
    )


def halve(
    whole: int,
    new: int,
    counts: np.ndarray,
    weights: np.ndarray,
    biases: np.ndarray,
    scales: np.ndarray,
) -> None:
    """Make two outputs, `whole` and `new`, of one: each has half of its count and probability."""
    counts[whole] *= 0.5
    biases[whole] = float(biases[whole]) + LOG_HALF / float(scales[whole])
    for rows in counts, weights, biases, scales:
        rows[new] = rows[whole]


def split_targets(
    counts: np.ndarray, num_mixtures: int, power: float, min_count: float
) -> np.ndarray:
    """Share `num_mixtures` among classes in proportion to a power of their counts, (classes,).

    Each has at least one, and the next always goes to the class with the most of counts^power per
    mixture; but none is given so many that one of them had a count of `min_count` or less.
    """
    sizes = np.ones(len(counts), np.int64)
    shares = np.power(counts, np.float32(power), dtype=np.float32).tolist()
    queue = [(-share, i) for i, share in enumerate(shares)]
    heapq.heapify(queue)
    for _ in range(num_mixtures - len(counts)):
        while queue and (sizes[queue[0][1]] + 1) * min_count >= counts[queue[0][1]]:
            heapq.heappop(queue)
        if not queue:
            log.warning(
                "Could not split up to %d due to min-count = %g (or no counts at all)",
                *(num_mixtures, min_count),
            )
            break
        i = queue[0][1]
        sizes[i] += 1
        heapq.heapreplace(queue, (-shares[i] / sizes[i], i))
    return sizes
