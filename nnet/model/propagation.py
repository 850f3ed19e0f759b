"""Forward and backward computation through a network, with memory that is kept.

Source: Kaldi's nnet2/nnet-update.cc and nnet2/nnet-compute.cc.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import nullcontext
from itertools import pairwise

import numpy as np

from nnet.components import Component
from nnet.components.nonlinear import PROBABILITY_FLOOR, SoftmaxComponent
from nnet.device.device import Array, SparseRows, Workspace, to_host
from nnet.errors import NgtrainError
from nnet.model.network import Network

_MAIN_STREAM = nullcontext()
_IN_TURNS = "buffer 0", "buffer 1"
"""Names of memory for data of which only the latest is needed."""


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
        self.network, self.device = network, network.device
        self._goes_back = goes_back
        self._workspace = Workspace()
        self._activations: list[Array] = []
        self._components = components = network.components
        self._output_dims = [component.output_dim for component in components]
        is_kept = [goes_back and (a.needs_output or b.needs_input) for a, b in pairwise(components)]
        self._overwrites_input = [
            component.in_place and not kept
            for component, kept in zip(components, (True, *is_kept), strict=True)
        ]
        updatable = network.updatable_components
        self._first_trained = updatable[0].index if updatable else len(components)
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
        if dim != network.input_dim:
            raise NgtrainError(
                f"feature dimension is {dim}, but the network expects {network.input_dim}"
            )
        if network.layout != tuple(layout):
            network.set_layout(*layout)
        x = self.device.asarray(frames).reshape(-1, dim).astype(network.dtype, copy=False)
        self._activations, buffers = [x], itertools.cycle(_IN_TURNS)
        for c, component in enumerate(self._components):
            out = x
            if not self._overwrites_input[c]:
                name = f"activation {c}" if self._goes_back else next(buffers)
                shape = network.num_rows[c + 1], self._output_dims[c]
                out = self._workspace.array(name, shape, x)
            component.propagate(x, out)
            self._activations.append(out)
            x = out
        return x

    def backward(
        self, log_derivative: SparseRows
    ) -> Iterator[tuple[Component, Array, Array, Array]]:
        """Propagate the derivative of the objective back, layer by layer.

        As soon as it has passed a component that learns, this is yielded with the arguments of its
        update(), which is to be called before the next; what the caller does may go on in a side
        stream.  All that is done at the end.

        Args:
            log_derivative: that w.r.t. the logarithm of the output of the last forward().
        """
        components, buffers = self._components[self._first_trained :], itertools.cycle(_IN_TURNS)
        if not components:
            return

        def memory_like(activation: Array, c: int) -> Array:
            """Return memory for the derivative w.r.t. the input of component `c`, and more rows."""
            name = f"derivative {c}" if self.device.overlaps else next(buffers)
            (rows, dim), more = activation.shape, self._num_extra_rows
            return self._workspace.array(name, (rows + more, dim), activation)

        *_, x, y = self._activations
        derivative = memory_like(y, len(self._components))
        if isinstance(components[-1], SoftmaxComponent):
            # Together with the logarithm it has a derivative that is simpler than either's.
            *components, softmax = components
            softmax.backpropagate_log(y, log_derivative, derivative[: len(y)])
            yield softmax, x, y, derivative[: len(y)]
        else:
            out = derivative[: len(y)]
            self.device.log_backward(y, log_derivative, PROBABILITY_FLOOR, out)
        for component in reversed(components):
            c, below = component.index, derivative
            x, y = self._activations[c : c + 2]
            if component is not components[0]:
                if not component.in_place:
                    below = memory_like(x, c)
                component.backpropagate(x, y, derivative[: len(y)], below[: len(x)])
            if component.learns:
                with self._side_streams.get(c, _MAIN_STREAM):
                    yield component, x, y, derivative[: len(y) + component.num_extra_rows]
            derivative = below
        for stream in self._side_streams.values():
            self.device.join(stream)

    # Utterances -----------------------------------------------------------------------------------

    def compute(
        self, features: np.ndarray, pad_input: bool = True, chunk_size: int = 0
    ) -> np.ndarray:
        """Compute the output for an utterance, (T', output_dim), from (T, input_dim), on the host.

        Args:
            pad_input: repeat the first and the last frame as the context needs it, so that T' = T.
            chunk_size: compute at most so many output frames at a time, to bound memory; 0 for all.

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
