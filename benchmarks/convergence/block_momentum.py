"""What the field did to the average after the paper: momentum from one average to the next."""

from __future__ import annotations

from nnet.model.network import Network


class BlockMomentum:
    """The way from an iteration's start to the average of its models, with momentum.

    With theta_bar_t the average of what jobs made of theta_{t-1},

        Delta_t = eta Delta_{t-1} + zeta (theta_bar_t - theta_{t-1}),

    and theta_t = theta_{t-1} + Delta_t, or, one step ahead as Nesterov's gradient method is,
    theta_t = theta_{t-1} + zeta (theta_bar_t - theta_{t-1}) + eta Delta_t.  The plain average has
    eta = 0 and zeta = 1.

    Source: Chen and Huo (ICASSP 2016), the classical and the Nesterov block momentum.  The latter
    is also the outer optimizer of DiLoCo (arXiv 2311.08105), there with eta 0.9 and zeta 0.7.

    Args:
        momentum, learning_rate: eta and zeta.
        nesterov: which of the two.
        delta: a network whose parameters are Delta_{t-1}; None at the start.
    """

    def __init__(
        self,
        momentum: float = 0.0,
        learning_rate: float = 1.0,
        nesterov: bool = True,
        delta: Network | None = None,
    ):
        self.momentum, self.learning_rate, self.nesterov = momentum, learning_rate, nesterov
        self.delta = delta

    def step(self, start: Network, average: Network) -> Network:
        """Return theta_t, given theta_{t-1}, which stays, and the average, which is overwritten."""
        if self.momentum == 0.0 and self.learning_rate == 1.0:
            return average
        if self.delta is None:
            self.delta = start.copy()
            self.delta.set_zero()
        eta, zeta = self.momentum, self.learning_rate
        layers = (network.updatable_components for network in (start, average, self.delta))
        for theta, mean, delta in zip(*layers, strict=True):
            mean.add(-1.0, theta)
            mean.scale(zeta)  # zeta (theta_bar - theta)
            delta.scale(eta)
            delta.add(1.0, mean)
            if self.nesterov:
                mean.add(eta, delta)
            else:
                mean.scale(0.0)
                mean.add(1.0, delta)
            mean.add(1.0, theta)
        return average
