"""Repair of units that have stopped learning.

The derivative of a unit's nonlinearity, averaged over training data and relative to its maximum,
tells where the unit works.  Near 0, a sigmoid or tanh is saturated, and a rectified linear unit is
always off; near 1, a sigmoid or tanh never leaves its linear part, and a rectified linear unit is
always on.

Source: Kaldi's nnet2/nnet-fix.{h,cc}.
"""

import logging
from itertools import pairwise

import numpy as np

from nnet.components.affine import AffineComponent
from nnet.components.nonlinear import RectifiedLinearComponent, SigmoidComponent, TanhComponent
from nnet.model.network import Network

log = logging.getLogger("ngtrain")

MAX_DERIVATIVE = {SigmoidComponent: 0.25, TanhComponent: 1.0, RectifiedLinearComponent: 1.0}


def fix_network(
    network: Network,
    *,
    min_average_deriv: float = 0.1,
    max_average_deriv: float = 0.75,
    parameter_factor: float = 2.0,
    relu_bias_change: float = 1.0,
) -> None:
    """Bring back, in place, the units whose average derivative is out of bounds.

    The parameters of a sigmoid or tanh unit are multiplied by as much as the derivative is out of
    bounds, by at most `parameter_factor` or its inverse; the bias of a rectified linear unit gets
    `relu_bias_change` added or subtracted.
    """
    for c, (affine, nonlinearity) in enumerate(pairwise(network.components)):
        if not (isinstance(affine, AffineComponent) and type(nonlinearity) in MAX_DERIVATIVE):
            continue
        if nonlinearity.count == 0 or len(nonlinearity.deriv_sum) == 0:
            log.warning("Cannot fix neural net because no statistics are stored.")
            continue
        maximum = MAX_DERIVATIVE[type(nonlinearity)]
        ratio = nonlinearity.deriv_sum / (nonlinearity.count * maximum)  # (units,)
        small, large = ratio < min_average_deriv, ratio > max_average_deriv
        if isinstance(nonlinearity, RectifiedLinearComponent):
            affine.bias_params[small] += relu_bias_change
            affine.bias_params[large] -= relu_bias_change
            log.info(
                "For layer %d (ReLU units), increased bias for %d indexes and decreased it for %d, "
                "out of a total of %d",
                *(c, small.sum(), large.sum(), len(ratio)),
            )
        else:
            nearest_in_bounds = np.clip(ratio, min_average_deriv, max_average_deriv)
            factor = np.clip(ratio / nearest_in_bounds, 1 / parameter_factor, parameter_factor)
            affine.bias_params *= factor
            affine.linear_params *= factor[:, np.newaxis]
            log.info(
                "For layer %d, decreased parameters for %d indexes, and increased them for %d out "
                "of a total of %d",
                *(c, small.sum(), large.sum(), len(ratio)),
            )
