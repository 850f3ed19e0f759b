"""Forward and backward computation through a network, with memory that is kept.

Source: Kaldi's nnet2/nnet-update.cc and nnet2/nnet-compute.cc.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from typing import NamedTuple

import numpy as np

from nnet.components import Component
from nnet.components.nonlinear import PROBABILITY_FLOOR, SoftmaxComponent
from nnet.device.device import Array, GrowingRows, SparseRows, Workspace, to_host
from nnet.errors import NgtrainError
from nnet.model.network import Network

_MAIN_STREAM = nullcontext()


class LayerGradient(NamedTuple):
    """A component, and all that backpropagation knows of its part of the gradient.

    Attributes:
        component: the component.
        x, y: its input and output, (rows, input_dim) and (rows, output_dim).
        derivative: that of the objective w.r.t. y, which may be overwritten.
    """

    component: Component
    x: Array
    y: Array
    derivative: GrowingRows

    def update(self) -> None:
        """Let the component learn from the minibatch."""
        self.component.update(self.x, self.y, self.derivative)

    def add_to(self, gradient: Network) -> None:
        """Add derivatives w.r.t. parameters to those of a network of the same structure."""
        target = gradient.components[self.component.index]
        self.component.add_gradient(self.x, self.y, self.derivative, target)


class Propagation:
    """Outputs and derivatives of a network, minibatch after minibatch.

    All arrays of the size of activations are allocated for the first minibatch and used again for
    the next; what a method returns is valid until the next call.  The parameters of the network may
    change between calls, its components must not.

    Args:
        network: the network, on the device where everything is computed.
        goes_back: whether backward() will be called, for which activations have to be kept.
    """

    def __init__(self, network: Network, goes_back: bool = True):
        self.network = network
        self.device = network.device
        self._components, self._input_dim = network.components, network.input_dim
        self._output_dims = [component.output_dim for component in self._components]
        self._goes_back = goes_back
        self._workspace = Workspace()
        self._current_buffer = 0
        self._activations: list[Array] = []
        updatable = network.updatable_components
        self._first_trained = updatable[0].index if updatable else len(self._components)
        self._num_extra_rows = max((c.num_extra_rows for c in updatable), default=0)
        self._side_streams = {c.index: self.device.side_stream() for c in updatable}

    def forward(self, frames: Array) -> Array:
        """Compute the output, (chunks * output frames, output_dim).

        Args:
            frames: (chunks, frames, input_dim), for each example, or utterance, contiguous frames
                with the context that the network needs.

        Raises:
            NgtrainError: the dimension is wrong, or there are too few frames.
        """
        network, (*layout, dim) = self.network, frames.shape
        if dim != self._input_dim:
            raise NgtrainError(
                f"feature dimension is {dim}, but the network expects {self._input_dim}"
            )
        if network.layout != tuple(layout):
            network.set_layout(*layout)
        x = self.device.asarray(frames).reshape(-1, dim)
        if x.dtype != network.dtype:
            x = x.astype(network.dtype)
        self._activations = [x]
        self._current_buffer = 0  # the same memory for every minibatch
        for component, rows in zip(self._components, network.num_rows[1:], strict=True):
            out = self._memory_for_output(component, x, rows)
            component.propagate(x, out)
            self._activations.append(out)
            x = out
        return x

    def backward(self, derivative: SparseRows) -> Iterator[LayerGradient]:
        """Propagate the derivative of the objective back, layer by layer.

        As soon as it has passed a layer that learns, that is yielded, to be updated before the
        next; what the caller does to it may go on in a side stream.  All that is done at the end.

        Args:
            derivative: that w.r.t. the logarithm of the output of the last forward().
        """
        components = self._components[self._first_trained :]
        if not components:
            return
        rows = self._memory_for_derivative(self._activations[-1], len(self._components))
        if self._enter(derivative, rows.matrix):
            softmax = components.pop()
            yield LayerGradient(softmax, *self._activations[-2:], rows)
        for component in reversed(components):
            x, y = self._activations[component.index : component.index + 2]
            rows_below = None
            if component is not components[0]:
                rows_below = self._backpropagate(component, x, y, rows)
            if component.learns:
                with self._side_streams.get(component.index, _MAIN_STREAM):
                    yield LayerGradient(component, x, y, rows)
            rows = rows_below
        for stream in self._side_streams.values():
            stream.join()

    def _enter(self, derivative: SparseRows, out: Array) -> bool:
        """Compute the derivative w.r.t. the output; if that is a softmax's, w.r.t. its input.

        Together with the logarithm a softmax has a derivative that is simpler than either's.
        Returns whether it was passed.
        """
        last, y = self._components[-1], self._activations[-1]
        if isinstance(last, SoftmaxComponent):
            last.backpropagate_log(y, derivative, out)
            return True
        self.device.log_backward(y, derivative, PROBABILITY_FLOOR, out)
        return False

    def _backpropagate(
        self, component: Component, x: Array, y: Array, rows: GrowingRows
    ) -> GrowingRows:
        """Compute the derivative w.r.t. the input, given that w.r.t. the output."""
        below = rows if component.in_place else self._memory_for_derivative(x, component.index)
        component.backpropagate(x, y, rows.matrix, below.matrix)
        return below

    # Memory ---------------------------------------------------------------------------------------

    def _memory_for_output(self, component: Component, x: Array, num_rows: int) -> Array:
        """Return memory for the output of a component; its input, where that may be overwritten."""
        index = component.index
        if index > 0 and component.in_place:
            before = self._components[index - 1]
            if not (self._goes_back and (before.needs_output or component.needs_input)):
                return x
        name = f"activation {index}" if self._goes_back else self._other_buffer()
        return self._workspace.array(name, (num_rows, self._output_dims[index]), x)

    def _memory_for_derivative(self, y: Array, index: int) -> GrowingRows:
        """Return memory for the derivative w.r.t. `y`, the input of component `index`.

        Updates of components may append rows to it.
        """
        overlaps = any(stream.overlaps for stream in self._side_streams.values())
        name = f"derivative {index}" if overlaps else self._other_buffer()
        num_rows, dim = y.shape
        memory = self._workspace.array(name, (num_rows + self._num_extra_rows, dim), y)
        return GrowingRows(memory, num_rows)

    def _other_buffer(self) -> str:
        """Name two buffers in turn, for data of which only the latest is needed."""
        self._current_buffer = 1 - self._current_buffer
        return f"buffer {self._current_buffer}"

    # Utterances -----------------------------------------------------------------------------------

    def compute(
        self, features: np.ndarray, pad_input: bool = True, chunk_size: int = 0
    ) -> np.ndarray:
        """Compute the output for an utterance.

        Args:
            features: (T, input_dim).
            pad_input: repeat the first and the last frame as the context needs it, so that T' = T.
            chunk_size: compute at most so many output frames at a time, to bound memory; 0 for all.

        Returns:
            (T', output_dim), on the host.

        Raises:
            NgtrainError: as forward() does, and for NaN or infinity in the features.
        """
        if not np.isfinite(features).all():
            raise NgtrainError("there is NaN or infinity in the features")
        left, right = self.network.left_context, self.network.right_context
        if pad_input:
            features = np.pad(features, ((left, right), (0, 0)), mode="edge")
        num_outputs = len(features) - left - right
        size = chunk_size or max(num_outputs, 1)
        chunks = [
            to_host(self.forward(features[None, begin : begin + left + size + right])).copy()
            for begin in range(0, max(num_outputs, 1), size)
        ]
        return chunks[0] if len(chunks) == 1 else np.concatenate(chunks)


def compute(network: Network, features: np.ndarray, pad_input: bool = True) -> np.ndarray:
    """Compute the output (T', output_dim) of a network for the features (T, input_dim).

    For many utterances, keep a Propagation and call its compute().
    """
    return Propagation(network, goes_back=False).compute(features, pad_input)
