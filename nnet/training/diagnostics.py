"""The change of a network by training, and the share of each component.

Source: Kaldi's nnet2bin/nnet-show-progress.cc.
"""

import logging
from collections.abc import Iterable

import numpy as np

from nnet.device.device import CPU, Device
from nnet.egs.minibatches import Minibatch, read_minibatches
from nnet.errors import NgtrainError
from nnet.io import log_format, log_lines
from nnet.model.acoustic_model import load_network
from nnet.model.network import Network
from nnet.model.propagation import Propagation
from nnet.training.evaluation import objective_gradient

log = logging.getLogger("ngtrain")

MINIBATCH_SIZE = 1024  # only affects speed


def show_progress(
    old_rxfilename: str,
    new_rxfilename: str,
    examples_rspecifier: str | None = None,
    num_segments: int = 1,
    device: Device = CPU,
) -> None:
    """Log how two models differ, and what that did to the objective on examples, if given.

    Raises:
        NgtrainError: there are no examples.
    """
    old, new = (load_network(name, device) for name in (old_rxfilename, new_rxfilename))
    if old.num_parameters != new.num_parameters:
        log.warning("Parameter-dim mismatch, cannot show progress.")
        return
    if examples_rspecifier:
        context = new.left_context, new.right_context
        minibatches = read_minibatches(examples_rspecifier, MINIBATCH_SIZE, *context)
        if num_segments > 1:  # several passes
            minibatches = list(minibatches)
        try:
            change = objective_change(old, new, minibatches, num_segments)
        except ZeroDivisionError:
            raise NgtrainError(f"{examples_rspecifier}: no examples") from None
        log.info(log_lines.OBJECTIVE_CHANGE.format, log_format.vector(change))
    change, relative_change = parameter_change(old, new)
    log.info(log_lines.CHANGE.format, log_format.vector(change))
    log.info(log_lines.RELATIVE_CHANGE.format, log_format.vector(relative_change))


def parameter_change(old: Network, new: Network) -> tuple[np.ndarray, np.ndarray]:
    """Compute |new - old| and |new - old| / |old| of each of C updatable components, both (C,).

    The relative change is inf where all old parameters are zero, and NaN if they stayed so.
    """
    difference = new.copy()
    difference.add(-1.0, old)
    change = np.sqrt(difference.dot_product(difference))
    with np.errstate(divide="ignore", invalid="ignore"):
        return change, change / np.sqrt(old.dot_product(old))


def objective_change(
    old: Network, new: Network, minibatches: Iterable[Minibatch], num_segments: int = 1
) -> np.ndarray:
    """Estimate what the change of each updatable component did to the objective per frame, (C,).

    The straight line from `old` to `new` is cut into `num_segments` equal parts.  Each contributes

        <theta_new - theta_old, df/dtheta> / num_segments,

    with the derivative at its middle, which tends to the change of f as the parts get smaller.
    Raises:
        ZeroDivisionError: there are no examples.
    """
    change = new.copy()
    change.add(-1.0, old)
    gains = np.zeros(len(new.updatable_components))
    middle, gradient = new.copy(), new.copy()
    propagation = Propagation(middle)
    for segment in range(num_segments):
        position = (segment + 0.5) / num_segments
        middle.set_zero()
        middle.add(1 - position, old)
        middle.add(position, new)
        total = objective_gradient(propagation, minibatches, gradient)
        log.info("At position %g, objf per frame is %g", position, total.log_prob / total.weight)
        gain = change.dot_product(gradient) / total.weight / num_segments
        log.debug("By segment %d, objf change is %s", segment, log_format.vector(gain))
        gains += gain
    return gains
