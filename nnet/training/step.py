"""A step of training for each minibatch, while the next one is on its way."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from nnet.device.backend import Array, inbox, step, zeros
from nnet.io.background import read_ahead
from nnet.training.propagation import Propagation, arrays_of

if TYPE_CHECKING:
    from nnet.egs.minibatches import Minibatch
    from nnet.model.network import Network


class TrainingStep:
    """Makes steps that change a network.

    On a GPU a minibatch travels through an inbox to memory where it is always found.  The steps of
    one cycle (the update period of the online natural gradient) are one graph, captured the second
    time and then replayed.  A cycle begins with the steps that update Fisher matrices, which has
    time until these are needed again.
    """

    def __init__(self, network: Network):
        self.network = network
        self._propagation = Propagation(network)
        self._inbox = inbox()
        self._cycle = step(self._make_steps)
        self._loaded: list[tuple[Array, ...]] = []
        self._log_prob = zeros((), np.float64)

    def train_on(self, minibatches: Iterable[Minibatch]) -> Iterator[list[Minibatch]]:
        """Make a step with each minibatch; yield those of a cycle, or a single one, then.

        A thread reads the next ones and sends them to the device meanwhile.  Raises NgtrainError
        when a minibatch does not fit the network.
        """
        sent = read_ahead(self._sent(minibatches))
        for minibatch, parcel in sent:
            group, self._loaded = [minibatch], [self._inbox.receive(parcel, 0)]
            length = self._cycle_length()
            for minibatch, parcel in itertools.islice(sent, max(length - 1, 0)):
                group.append(minibatch)
                self._loaded.append(self._inbox.receive(parcel, len(self._loaded)))
            shapes = [arrays[0].shape for arrays in self._loaded]
            if len(group) == length and len(set(shapes)) == 1:
                self._cycle((self._inbox.age, shapes[0]))
            else:
                self._make_steps()
            yield group

    def take_log_prob(self) -> float:
        """The log-probability of the labels since the last call; waits for the device."""
        log_prob = float(self._log_prob)
        self._log_prob.fill(0)
        return log_prob

    def _sent(self, minibatches: Iterable[Minibatch]) -> Iterator[tuple[Minibatch, Any]]:
        for minibatch in minibatches:
            self._propagation.check(minibatch)
            yield minibatch, self._inbox.send(arrays_of(minibatch))

    def _cycle_length(self) -> int:
        """Steps from now on that are a cycle; 0 if none begins with the next step."""
        if not self._cycle.is_replayed:
            return 1
        lengths = [component.cycle_length for component in self.network.components]
        return math.lcm(*lengths)

    def _make_steps(self) -> None:
        """A step with each of the minibatches that have been loaded."""
        for arrays in self._loaded:
            self._propagation.load(*arrays)
            self._propagation.add_log_prob(self._log_prob)
            self._propagation.backpropagate()
