"""Steps of training on the device, while the next minibatches are on their way to it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from nnet.device.device import Array, SparseRows
from nnet.io.background import read_ahead
from nnet.training.objective import labels_of

if TYPE_CHECKING:
    from nnet.egs.minibatches import Minibatch
    from nnet.model.network import Network


class Cycles:
    """Calls of a step for each minibatch, in cycles that a device can repeat as one graph.

    On a GPU a minibatch travels through a staging buffer to memory where it is always found.  The
    steps of one cycle (the update period of the online natural gradient) are one graph, captured
    the second time and then replayed.  A cycle begins with the steps that update Fisher matrices,
    which has time until these are needed again.

    Args:
        network: the network that changes.
        step: function(frames, labels) on the device.
    """

    def __init__(self, network: Network, step: Callable[[Array, SparseRows], None]):
        self.network = network
        self._step = step
        self._staging_buffer = network.device.staging_buffer()
        self._graph = network.device.captured(self._make_steps)
        self._received: list[tuple[Array, ...]] = []

    def run(self, minibatches: Iterable[Minibatch]) -> Iterator[list[Minibatch]]:
        """Make a step with each minibatch; yield those of a cycle, or a single one, then.

        A thread reads the next ones and sends them to the device meanwhile.

        Raises:
            NgtrainError: a minibatch does not fit the network.
        """
        on_their_way = read_ahead(self._sent(minibatches))
        for minibatch, sent in on_their_way:
            cycle, self._received = [minibatch], [self._staging_buffer.receive(sent, 0)]
            length = self._length()
            for minibatch, sent in itertools.islice(on_their_way, max(length - 1, 0)):
                cycle.append(minibatch)
                self._received.append(self._staging_buffer.receive(sent, len(self._received)))
            shapes = [frames.shape for frames, *_ in self._received]
            if len(cycle) == length and len(set(shapes)) == 1:
                self._graph((self._staging_buffer.age, shapes[0]))
            else:
                self._make_steps()
            yield cycle

    def _sent(self, minibatches: Iterable[Minibatch]) -> Iterator[tuple[Minibatch, Any]]:
        """Send minibatches to the device."""
        for minibatch in minibatches:
            labels = labels_of(minibatch, self.network)
            yield minibatch, self._staging_buffer.send((minibatch.frames, *labels))

    def _length(self) -> int:
        """Count the steps from now on that are a cycle; 0 if none begins with the next one."""
        if not self._graph.is_replayed:
            return 1
        if not all(component.can_be_captured for component in self.network.components):
            return 0
        updatable = self.network.updatable_components
        return math.lcm(*(p.cycle_length for c in updatable for p in c.preconditioners))

    def _make_steps(self) -> None:
        """Make a step with each of the minibatches that have been received."""
        for frames, *labels in self._received:
            self._step(frames, SparseRows(*labels))
