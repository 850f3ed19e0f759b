"""Learning rates that make all layers learn equally fast.

Source: Kaldi's nnet2bin/nnet-modify-learning-rates.cc.
"""

import logging

import numpy as np

from nnet.components.affine import AffineComponentPreconditioned
from nnet.errors import NgtrainError
from nnet.io import log_format
from nnet.model.network import Network
from nnet.training.diagnostics import parameter_change

log = logging.getLogger("ngtrain")


def equalize_relative_changes(
    previous: Network,
    current: Network,
    *,
    average_learning_rate: float = 0.0,
    first_layer_factor: float = 1.0,
    last_layer_factor: float = 1.0,
    retroactive: bool = False,
) -> None:
    """Set the learning rates of `current` so that the relative change of every layer gets the same.

    They are those of `previous` divided by |theta - theta_previous| / |theta_previous|, times a
    factor that brings their geometric mean to `average_learning_rate`, or if that is 0 to what it
    was in `current`.  Starting from those of `previous` makes it harmless to do this twice.

    Args:
        first_layer_factor, last_layer_factor: multiply the relative change aimed at of these
            layers.
        retroactive: multiply also the change since `previous` by the ratio of new to old rates.

    Raises:
        NgtrainError: no parameter has changed, or a rate is not positive.
    """
    _, relative_change = parameter_change(previous, current)
    log.info("Relative parameter differences per layer are %s", log_format.vector(relative_change))
    changed = relative_change > 0
    if not changed.any():
        raise NgtrainError("no parameter has changed: there is nothing to equalize")
    if not changed.all():
        relative_change[~changed] = relative_change[changed].mean()
        log.info(
            "Zeros detected in the relative parameter difference vector, updating the vector to %s",
            log_format.vector(relative_change),
        )
    old_rates, current_rates = np.array([previous.learning_rates, current.learning_rates])
    log.info("Learning rates for previous model per layer are %s", log_format.vector(old_rates))
    log.info("Learning rates for current model per layer are %s", log_format.vector(current_rates))

    new_rates = old_rates / relative_change
    new_rates[0] *= first_layer_factor
    new_rates[-1] *= last_layer_factor
    target = average_learning_rate or _geometric_mean(current_rates)
    new_rates *= target / _geometric_mean(new_rates)
    log.info("New learning rates for current model per layer are %s", log_format.vector(new_rates))

    if retroactive:
        factors = new_rates / old_rates
        for component, before, factor in zip(
            current.updatable_components, previous.updatable_components, factors, strict=True
        ):
            component.scale(factor)
            component.add(1 - factor, before)
        log.info(
            "Scale parameter difference retroactively. Scaling factors are %s",
            log_format.vector(factors),
        )
    current.learning_rates = new_rates
    for component in current.components:
        if isinstance(component, AffineComponentPreconditioned):
            component.max_change = 0.0


def _geometric_mean(rates: np.ndarray) -> float:
    if not (rates > 0).all():
        raise NgtrainError(f"learning rates must be positive:{log_format.vector(rates).rstrip()}")
    return float(np.exp(np.log(rates).mean()))
