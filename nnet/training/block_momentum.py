"""Block momentum: steps towards averages that go on in the direction of those before.

With theta_bar_t the average of what N jobs made of theta_{t-1},

    Delta_t = eta Delta_{t-1} + zeta (theta_bar_t - theta_{t-1}),
    theta_t = theta_{t-1} + zeta (theta_bar_t - theta_{t-1}) + eta Delta_t,

which is Nesterov's gradient method, one step ahead, on the averages' steps.  The plain average has
eta = 0 and zeta = 1.  In the long run a step that is always the same goes zeta / (1 - eta) times as
far as the plain average would.

Source: Chen and Huo (ICASSP 2016), the Nesterov block momentum, with eta = 1 - 1/N and zeta = 1;
the outer optimizer of DiLoCo (arXiv 2311.08105) is the same with eta 0.9 and zeta 0.7.
"""

from __future__ import annotations

from nnet.model.network import Network


class BlockMomentum:
    """The steps of a training from average to average.

    Args:
        momentum, learning_rate: eta and zeta.
        delta: a network whose parameters are Delta_{t-1}; None at the start, where they are 0.
    """

    def __init__(
        self, momentum: float = 0.0, learning_rate: float = 1.0, delta: Network | None = None
    ):
        self.momentum, self.learning_rate, self.delta = momentum, learning_rate, delta

    def step(self, start: Network, average: Network) -> Network:
        """Return theta_t, given theta_{t-1}, which stays, and the average, which is overwritten."""
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
            mean.add(eta, delta)
            mean.add(1.0, theta)
        return average
