"""Weighted combination of networks.

Each updatable component c of the combined network is a weighted sum of that component in the N
given networks, with weights of its own that need not sum to one:

    theta_c(s) = sum_n s_{n,c} theta_{n,c}.

The N x C scales s are those that maximise, over a set of examples of total weight W,

    f(s) = 1/W sum_t w_t log p(y_t | x_t; theta(s)) - lambda/2 |theta(s)|^2.

One backpropagation gives the derivative by every parameter, and with it that by every scale:

    df/ds_{n,c} = <theta_{n,c}, df/dtheta_c>.

The networks are much alike, being taken from successive iterations, so f depends on the sum of
their scales far more than on the differences.  L-BFGS therefore works in a space in which the
scatter F of the gradients of small minibatches (an empirical Fisher matrix) is the unit matrix:
with F = C C^T, it sees the parameters C^T s, and the gradient C^{-1} df/ds.

combine_by_bfgs() does without, as Kaldi did before.

Source: Kaldi's nnet2/combine-nnet-fast.{h,cc} and nnet2/combine-nnet.{h,cc}.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NamedTuple

import numpy as np

from nnet.device.device import CPU, Device
from nnet.egs.minibatches import Minibatch, read_minibatches
from nnet.errors import NgtrainError
from nnet.io import log_format
from nnet.model.acoustic_model import AcousticModel
from nnet.model.network import Network
from nnet.model.propagation import Propagation
from nnet.training.averaging import load_alike
from nnet.training.evaluation import evaluate_minibatch, objective_gradient
from nnet.training.objective import Totals
from nnet.training.shares import Shares

log = logging.getLogger("ngtrain")

CONVERGED = 1e-7  # A step of L-BFGS that gains less than this per frame is the last.
MOST_SHARES = 4  # A share's gradient is multiplied with every network, which takes time.
LEAST_OF_ALIKE = 0.01  # The Fisher matrix hardly differs between networks that are alike.


def combine_models(
    rxfilenames: Sequence[str],
    examples_rspecifier: str,
    device: Device = CPU,
    method: Callable[..., Network] | None = None,
    **options,
) -> AcousticModel:
    """Return the first of some models, with the combination of the networks of all.

    `method` is combine(), the default, or combine_by_bfgs(); `options` are its own.

    Raises:
        NgtrainError: models cannot be combined (see averaging.load_alike()); there are no examples.
    """
    models = load_alike(rxfilenames, device)
    result = next(models)
    networks = [result.network, *(model.network for model in models)]
    context = result.network.left_context, result.network.right_context
    examples = next(read_minibatches(examples_rspecifier, sys.maxsize, *context), None)
    if examples is None:
        raise NgtrainError(f"{examples_rspecifier}: no examples")
    log.info("Read %d examples from the validation set.", len(examples))
    result.network = (method or combine)(networks, examples, **options)
    return result


def combine(
    networks: Sequence[Network],
    examples: Minibatch,
    *,
    initial_model: int = -1,
    num_lbfgs_iters: int = 10,
    initial_impr: float = 0.01,
    fisher_floor: float = 1e-20,
    alpha: float = 0.01,
    fisher_minibatch_size: int = 64,
    minibatch_size: int = 1024,
    max_lbfgs_dim: int = 10,
    regularizer: float = 0.0,
    num_processes: int = 1,
) -> Network:
    """Find the combination of `networks` that is best on `examples`, never worse than the start.

    Everything but the parameters of updatable components comes from the first network.

    Args:
        initial_model: n starts from network n, N or more from the average of all, a negative number
            from whichever of these is best on the examples.
        num_lbfgs_iters: the most evaluations of the objective.
        initial_impr: the gain per frame that the first step aims at.
        fisher_floor, alpha, fisher_minibatch_size: see preconditioner().
        max_lbfgs_dim: how many steps L-BFGS remembers.
        regularizer: lambda above.
        num_processes: how many share the examples, up to MOST_SHARES; the result is the same.

    Raises:
        NgtrainError: the objective at the start is not finite.
    """
    objective = Objective(networks, examples, minibatch_size, regularizer, num_processes)
    with objective:
        start = objective.start(initial_model)
        fisher = objective.fisher_matrix(start.scales, fisher_minibatch_size)
        steps = preconditioner(fisher, len(networks), fisher_floor, alpha)
        best = maximize(objective, start, steps, initial_impr, num_lbfgs_iters, max_lbfgs_dim)

    log.info("Scale parameters are %s", log_format.matrix(best.scales))
    if regularizer:
        log.info(
            "Combining nnets, objf/frame + regularizer changed from %s to %s",
            *(f"{e.log_prob:g} + {e.penalty:g} = {e.value:g}" for e in (start, best)),
        )
    else:
        log.info("Combining nnets, objf per frame changed from %g to %g", start.value, best.value)
    return objective.combined(best.scales)


def combine_by_bfgs(
    networks: Sequence[Network],
    examples: Minibatch,
    *,
    initial_model: int = -1,
    num_bfgs_iters: int = 30,
    initial_impr: float = 0.01,
    test_gradient: bool = False,
    num_processes: int = 1,
) -> Network:
    """Do what combine() does by BFGS in the scales themselves, which takes more evaluations.

    Args:
        initial_model: as for combine(), but whichever is best if it is more than N, too.
        test_gradient: log the gradient at the start beside one from differences.

    Raises:
        NgtrainError: the objective at the start is not finite.
    """
    with Objective(networks, examples, num_processes=num_processes) as objective:
        start = objective.start(initial_model if initial_model <= len(networks) else -1)
        if test_gradient:
            log_gradients(objective, start)
        dim = start.scales.size
        best = maximize(objective, start, np.eye(dim), initial_impr, num_bfgs_iters, dim)
    log.info(
        "Combining nnets, validation objf per frame changed from %g to %g",
        *(start.value, best.value),
    )
    log.info("Final scale factors are %s", log_format.matrix(best.scales))
    return objective.combined(best.scales)


class Evaluation(NamedTuple):
    """The objective at one point of the space of scales."""

    scales: np.ndarray  # s, (N, C)
    log_prob: float  # average per frame
    penalty: float  # -lambda/2 |theta|^2
    gradient: np.ndarray  # df/ds, (N, C)

    @property
    def value(self) -> float:
        return self.log_prob + self.penalty


class Objective:
    """f(s) for N networks, each of C updatable components; a block that ends its processes."""

    def __init__(
        self,
        networks: Sequence[Network],
        examples: Minibatch,
        minibatch_size: int = 1024,
        regularizer: float = 0.0,
        num_processes: int = 1,
    ):
        self.networks = networks
        self.examples = examples
        self.minibatch_size = minibatch_size
        self.regularizer = regularizer
        self.shape = len(networks), len(networks[0].updatable_components)
        self._network = networks[0].copy()
        self._gradient = networks[0].copy()
        self._propagation = Propagation(self._network)
        self._num_processes = num_processes
        minibatches = -(-len(examples) // minibatch_size)
        self._examples = examples.split(-(-minibatches // MOST_SHARES) * minibatch_size)
        self._gradients = Shares(self._gradient_of, self._examples, num_processes)

    def __enter__(self) -> Objective:
        return self

    def __exit__(self, *_) -> None:
        self._gradients.__exit__()

    def __call__(self, scales: np.ndarray) -> Evaluation:
        """Compute f and its gradient at `scales`, (N, C)."""
        log_prob, weight, gradient = map(sum, zip(*self._gradients(scales), strict=True))
        log_prob, gradient, penalty = log_prob / weight, gradient / weight, 0.0
        if self.regularizer:
            theta = self.combined(scales)
            penalty = -self.regularizer / 2 * sum(theta.dot_product(theta))
            gradient -= self.regularizer * self._by_scales(theta)
        evaluation = Evaluation(scales, log_prob, penalty, gradient)
        log.debug(
            "Objf is %g, raw gradient is %s",
            evaluation.value,
            log_format.vector(evaluation.gradient.ravel()),
        )
        return evaluation

    def _gradient_of(
        self, examples: Minibatch, scales: np.ndarray
    ) -> tuple[float, float, np.ndarray]:
        """Sum log-probability, weight and the gradient by scales, (N, C), of some examples."""
        self.combined(scales)
        minibatches = examples.split(self.minibatch_size)
        total = objective_gradient(self._propagation, minibatches, self._gradient)
        return total.log_prob, total.weight, self._by_scales(self._gradient)

    def start(self, initial_model: int) -> Evaluation:
        """Evaluate where a search starts; see combine() for `initial_model`.

        Raises:
            NgtrainError: the objective is not finite there.
        """
        evaluation = self(initial_scales(self, initial_model))
        if not np.isfinite(evaluation.value):
            raise NgtrainError(f"the objective of the initial combination is {evaluation.value}")
        return evaluation

    def log_prob(self, scales: np.ndarray) -> float:
        """Compute the average log-probability per frame at `scales`, without the gradient."""
        self.combined(scales)
        total = Totals()
        for minibatch in self.examples.split(self.minibatch_size):
            total.add(evaluate_minibatch(self._propagation, minibatch))
        return total.log_prob_per_frame

    def fisher_matrix(self, scales: np.ndarray, minibatch_size: int) -> np.ndarray:
        """Compute the scatter of the gradients of minibatches at `scales`, (N C, N C)."""
        with Shares(self._scatter_of, self._examples, self._num_processes) as scatters:
            return sum(scatters(scales, minibatch_size))

    def _scatter_of(
        self, examples: Minibatch, scales: np.ndarray, minibatch_size: int
    ) -> np.ndarray:
        self.combined(scales)
        gradients = []
        for minibatch in examples.split(minibatch_size):
            objective_gradient(self._propagation, [minibatch], self._gradient)
            gradients.append(self._by_scales(self._gradient).ravel())
        return np.transpose(gradients) @ gradients

    def combined(self, scales: np.ndarray) -> Network:
        """Compute theta(s); the same object every time, so that workspaces stay."""
        for c, component in enumerate(self._network.updatable_components):
            component.scale(0.0)
            for network, scale in zip(self.networks, scales[:, c].tolist(), strict=True):
                component.add(scale, network.updatable_components[c])
        return self._network

    def _by_scales(self, gradient: Network) -> np.ndarray:
        """Compute <theta_{n,c}, g_c>, (N, C)."""
        return np.array([network.dot_product(gradient) for network in self.networks])


def initial_scales(objective: Objective, initial_model: int) -> np.ndarray:
    """Return scales (N, C) that pick one network, or average all; see combine()."""
    num_networks, num_components = objective.shape
    average = np.full(objective.shape, 1 / num_networks)
    each_alone = np.eye(num_networks)[:, :, np.newaxis] * np.ones(num_components)
    candidates = [*each_alone, average]
    if initial_model < 0:
        log_probs = [objective.log_prob(scales) for scales in candidates]
        log.info(
            "Objective functions for the source neural nets are %s",
            log_format.vector(log_probs[:-1]),
        )
        log.info("Objf with all neural nets averaged is %g", log_probs[-1])
        initial_model = int(np.argmax(log_probs))
    if initial_model < num_networks:
        log.info("Initializing with neural net with index %d", initial_model)
        return candidates[initial_model]
    log.info("Initializing with all neural nets averaged.")
    return average


def preconditioner(fisher: np.ndarray, num_networks: int, floor: float, alpha: float) -> np.ndarray:
    """Compute A = C^{-T} with C C^T = F, smoothed: F is the unit matrix for y, where s = A y.

    `fisher`, (N C, N C), is brought to the trace of the unit matrix.  Its diagonal is floored to
    `floor`, for components without any effect, and to LEAST_OF_ALIKE times the largest element of
    the same component.  This is for a start from one network: where normalization makes the scale
    of a layer immaterial, there is no gradient by that network's scale; if the scale were free to
    take huge steps, the other networks would soon count for nothing.  (For this reason Kaldi's
    scripts start from the average.)  The diagonal is multiplied by 1 + `alpha`, so that F has full
    rank where there are fewer minibatches than scales.

    Raises:
        NgtrainError: F is singular nevertheless.
    """
    smoothed = fisher * (len(fisher) / (np.trace(fisher) or 1.0))
    diagonal = np.einsum("ii->i", smoothed).reshape(num_networks, -1)
    np.maximum(diagonal, np.maximum(floor, LEAST_OF_ALIKE * diagonal.max(axis=0)), out=diagonal)
    diagonal *= 1 + alpha
    try:
        return np.linalg.inv(np.linalg.cholesky(smoothed)).T
    except np.linalg.LinAlgError:
        raise NgtrainError(
            "the Fisher matrix of the scales is singular; a larger --alpha or --fisher-floor helps"
        ) from None


def maximize(
    objective: Callable[[np.ndarray], Evaluation],
    start: Evaluation,
    steps: np.ndarray,
    first_gain: float,
    num_evaluations: int,
    memory: int,
) -> Evaluation:
    """Return the best of at most `num_evaluations` by L-BFGS, that at `start` included.

    With A = `steps`, L-BFGS sees y, where s = s_0 + k A y.  Its first step always has length one,
    so k makes that step gain `first_gain`, were the objective linear.
    """
    from scipy.optimize import minimize

    first_gradient = steps.T @ start.gradient.ravel()
    if not first_gradient.any():
        return start
    steps = steps * (first_gain / np.linalg.norm(first_gradient))
    evaluations = [start]

    def negated(y):
        if not y.any():
            evaluation = start
        elif len(evaluations) >= num_evaluations:
            raise _EndOfSearch
        else:
            evaluation = objective(start.scales + (steps @ y).reshape(start.scales.shape))
            if not np.isfinite(evaluation.value):
                raise _EndOfSearch
            evaluations.append(evaluation)
        return -evaluation.value, -(steps.T @ evaluation.gradient.ravel())

    with suppress(_EndOfSearch):
        minimize(
            negated,
            np.zeros(len(steps)),
            jac=True,
            method="L-BFGS-B",
            options={"maxcor": memory, "maxfun": num_evaluations, "ftol": CONVERGED, "gtol": 0.0},
        )
    return max(evaluations, key=lambda evaluation: evaluation.value)


def log_gradients(objective: Objective, at: Evaluation) -> None:
    """Log the gradient at a point, and what differences of the objective say of it."""
    log.info("Double-checking gradient computation")
    differences = np.zeros(at.scales.size)
    for i, slope in enumerate(at.gradient.ravel()):
        # The objective is known to some 1e-7: it has to change by 1e-5.
        delta = max(1e-4, 1e-5 / max(abs(slope), 1e-7))
        scales = at.scales.copy()
        scales.flat[i] += delta
        differences[i] = (objective.log_prob(scales) - at.log_prob) / delta
    log.info("Manually computed gradient is %s", log_format.vector(differences))
    log.info("Gradient we computed is %s", log_format.vector(at.gradient.ravel()))


class _EndOfSearch(Exception):
    """The end of a search, raised out of scipy, which knows no other within a line search."""
