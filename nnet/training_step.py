"""A step of training for each minibatch, while the next one is on its way."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from nnet.backend import Array, Step, inbox, step, zeros
from nnet.io.background import read_ahead
from nnet.propagation import Propagation, arrays_of

if TYPE_CHECKING:
    from nnet.io.examples import Minibatch
    from nnet.network import Network


class TrainingStep:
    """Makes steps that change a network.

    On a GPU a minibatch travels through an inbox to memory where it is always found; forward and
    backward computation and the change of the parameters are one graph, captured the second time
    that a step is like another one, and then replayed.
    """

    def __init__(self, network: Network):
        self.network = network
        self._propagation = Propagation(network)
        self._inbox = inbox()
        can_be_replayed = all(c.can_be_replayed for c in network.components)
        self._step = (step if can_be_replayed else Step)(self._compute)
        self._log_prob = zeros((), np.float64)

    def train_on(self, minibatches: Iterable[Minibatch]) -> Iterator[Minibatch]:
        """Make a step with each minibatch, and yield it then.

        A thread reads the next ones and sends them to the device meanwhile.  Raises NgtrainError
        when a minibatch does not fit the network.
        """
        for minibatch, parcel in read_ahead(self._sent(minibatches)):
            self._make_step(self._inbox.receive(parcel))
            yield minibatch

    def take_log_prob(self) -> float:
        """The log-probability of the labels since the last call; waits for the device."""
        log_prob = float(self._log_prob)
        self._log_prob.fill(0)
        return log_prob

    def _sent(self, minibatches: Iterable[Minibatch]) -> Iterator[tuple]:
        for minibatch in minibatches:
            self._propagation.check(minibatch)
            yield minibatch, self._inbox.send(arrays_of(minibatch))

    def _make_step(self, arrays: tuple[Array, ...]) -> None:
        """A step with a minibatch that is on the device."""
        self._propagation.load(*arrays)
        due = tuple(component.due for component in self.network.components)
        key = self._inbox.age, arrays[0].shape, due
        self._step(key)

    def _compute(self) -> None:
        self._propagation.add_log_prob(self._log_prob)
        self._propagation.backpropagate()
