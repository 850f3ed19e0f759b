"""Rescaling of layers whose scale has no effect.

A p-norm is homogeneous, and a NormalizeComponent after it undoes any scale, so that with an affine
layer before the two the network computes the same whatever its parameters are multiplied by.  In
training, and in a combination of networks, that multiple may wander, and with it the effective
learning rate.

Source: Kaldi's nnet2bin/nnet-normalize-stddev.cc.
"""

import logging

import numpy as np

from nnet.components.affine import AffineComponent
from nnet.components.nonlinear import NormalizeComponent, PnormComponent
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
    """Find the affine components with a p-norm and then a normalize component after them."""
    pattern = AffineComponent, PnormComponent, NormalizeComponent
    components = network.components
    return [
        c
        for c in range(len(components) - 2)
        if all(map(isinstance, components[c : c + 3], pattern))
    ]


def parameter_stddev(component: AffineComponent) -> float:
    """Compute the standard deviation, about their mean, of all parameters of a component."""
    parameters = [p.ravel() for p in component.parameters]
    return float(array_module(parameters[0]).concatenate(parameters).std(dtype=np.float64))


def _counterpart(reference: Network, c: int) -> AffineComponent:
    if c < len(reference.components) and isinstance(reference.components[c], AffineComponent):
        return reference.components[c]
    raise NgtrainError(f"--stddev-from: component {c} of the reference model is not an affine one")
