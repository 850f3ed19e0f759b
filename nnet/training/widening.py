"""Widening: more units in the hidden layers of a network that has been trained.

The new units have random parameters.  The next affine layer has zeros for them, so that they change
nothing at first, but for what a NormalizeComponent makes of there being more of them.

Source: Kaldi's nnet2/widen-nnet.{h,cc}.
"""

import logging
import math

import numpy as np

from nnet.components import Component
from nnet.components.affine import AffineComponent
from nnet.components.nonlinear import NonlinearComponent
from nnet.model.network import Network

log = logging.getLogger("ngtrain")


def widen(
    network: Network,
    hidden_layer_dim: int,
    rng: np.random.Generator,
    *,
    param_stddev_factor: float = 1.0,
    bias_stddev: float = 0.5,
) -> None:
    """Give hidden layers `hidden_layer_dim` units, in place, if they have fewer.

    A hidden layer is an affine component, one or two nonlinearities of as many outputs as inputs
    (thus no p-norm), and the next affine component.  Statistics of the nonlinearities go.

    Args:
        param_stddev_factor: standard deviation of new weights, times the square root of the inputs.
        bias_stddev: that of new biases.
    """
    components, num_widened = list(network.components), 0
    for c, affine in enumerate(components):
        between = nonlinearities_after(components, c)
        following = c + 1 + len(between)
        if not (between and isinstance(affine, AffineComponent) and following < len(components)):
            continue
        if not isinstance(components[following], AffineComponent):
            continue
        if hidden_layer_dim <= affine.output_dim:
            log.warning(
                "Not widening component because new dim %d <= old dim %d",
                *(hidden_layer_dim, affine.output_dim),
            )
            continue
        log.info("Widening component %d from %d to %d", c, affine.output_dim, hidden_layer_dim)
        num_new = hidden_layer_dim - affine.output_dim
        weights = rng.standard_normal((num_new, affine.input_dim), np.float32)
        weights *= np.float32(param_stddev_factor / math.sqrt(affine.input_dim))
        biases = np.float32(bias_stddev) * rng.standard_normal(num_new, np.float32)
        components[c] = affine.with_fields(
            linear_params=np.concatenate([affine.linear_params, weights]),
            bias_params=np.concatenate([affine.bias_params, biases]),
        )
        for n, nonlinearity in enumerate(between, start=c + 1):
            components[n] = type(nonlinearity)(dim=hidden_layer_dim)
        next_weights = components[following].linear_params
        components[following] = components[following].with_fields(
            linear_params=np.pad(next_weights, ((0, 0), (0, num_new)))
        )
        num_widened += 1
    network.set_components(components)
    log.info("Widened %d components.", num_widened)


def nonlinearities_after(components: list[Component], c: int) -> list[NonlinearComponent]:
    """List the nonlinearities, up to two, that follow component c."""
    found: list[NonlinearComponent] = []
    for component in components[c + 1 : c + 3]:
        if not isinstance(component, NonlinearComponent):
            break
        found.append(component)
    return found
