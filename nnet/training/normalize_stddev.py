"""Rescaling of layers whose scale has no effect.

A p-norm, and a power of it, is homogeneous, and a NormalizeComponent after it undoes any scale, so
that with an affine layer before the two the network computes the same whatever its parameters are
multiplied by.  In training, and in a combination of networks, that multiple may wander, and with it
the effective learning rate.

Source: Kaldi's nnet2bin/nnet-normalize-stddev.cc.
"""

import logging
from collections.abc import Sequence

import numpy as np

from nnet.components import Component, UpdatableComponent
from nnet.components.affine import AffineComponent
from nnet.components.block_affine import BlockAffineComponent
from nnet.components.nonlinear import NormalizeComponent, PnormComponent, PowerComponent
from nnet.device.device import array_module
from nnet.errors import NgtrainError
from nnet.model.network import Network

log = logging.getLogger("ngtrain")


def normalize_stddev(network: Network, target: float | Network = 1.0) -> None:
    """Scale, in place, the layers found by scale_free_layers() to a standard deviation.

    `target` is that standard deviation, or a network of the same structure from whose layers it is
    taken.  A layer whose parameters are all equal stays as it is.

    Raises:
        NgtrainError: the reference network has no such layer in the same place.
    """
    for c in scale_free_layers(network):
        layer = network.components[c]
        stddev = parameter_stddev(layer)
        goal = parameter_stddev(_counterpart(target, c)) if isinstance(target, Network) else target
        if stddev > 0:
            layer.scale(goal / stddev)
            log.info("Normalized component %d", c)


def scale_free_layers(network: Network) -> list[int]:
    """Find the affine components with a p-norm, perhaps a power, and then a normalization."""
    return [
        c
        for c in range(len(network.components))
        if any(_begins_with(network.components[c:], pattern) for pattern in _PATTERNS)
    ]


_AFFINE = AffineComponent, BlockAffineComponent
_PATTERNS = (
    (_AFFINE, PnormComponent, NormalizeComponent),
    (_AFFINE, PnormComponent, PowerComponent, NormalizeComponent),
)


def _begins_with(components: Sequence[Component], pattern: Sequence) -> bool:
    return len(components) >= len(pattern) and all(map(isinstance, components, pattern))


def parameter_stddev(component: UpdatableComponent) -> float:
    """Compute the standard deviation, about their mean, of all parameters of a component."""
    parameters = [p.ravel() for p in component.parameters]
    return float(array_module(parameters[0]).concatenate(parameters).std(dtype=np.float64))


def _counterpart(reference: Network, c: int) -> UpdatableComponent:
    if c < len(reference.components) and isinstance(reference.components[c], _AFFINE):
        return reference.components[c]
    raise NgtrainError(f"--stddev-from: component {c} of the reference model is not an affine one")
