"""Forward and backward computation through a network, with memory that is kept.

Worked from Kaldi's nnet2/nnet-update.cc and nnet2/nnet-compute.cc.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nnet.components import Component, UpdatableComponent
from nnet.components.layout import FrameLayout
from nnet.components.nonlinear import NonlinearComponent
from nnet.components.softmax import (
    PROBABILITY_FLOOR,
    Labels,
    SoftmaxComponent,
    add_log_prob,
    log_prob_backward,
)
from nnet.device.backend import Array, Workspace, array_module, aside, to_device, to_host
from nnet.errors import NgtrainError

if TYPE_CHECKING:
    from nnet.egs.minibatches import Minibatch
    from nnet.model.network import Network


class Propagation:
    """Computes outputs, objectives and derivatives of a network, minibatch after minibatch.

    All arrays of the size of activations are allocated for the first minibatch and used again for
    the next; what a method returns is valid until the next call.  The parameters of the network may
    change between calls, its components must not.

    backward: whether backpropagate() will be called, for which activations have to be kept.
    """

    def __init__(self, network: Network, backward: bool = True):
        self.network = network
        self.backward = backward
        self._workspace = Workspace()
        self._first_updatable = next(
            (c.index for c in network.components if isinstance(c, UpdatableComponent)),
            len(network.components),
        )
        self._layouts: list[FrameLayout] = []
        self._activations: list[Array] = []
        self._frames: Array = None
        self._labels: Labels = None
        self._current_buffer = 0
        self._asides = {c.index: aside() for c in network.updatable_components}

    # Forward --------------------------------------------------------------------------------------

    def propagate(self, frames: Array) -> Array:
        """The output rows, (chunks * output frames, output_dim).

        `frames`, (chunks, frames, input_dim), holds for each example, or utterance, contiguous
        frames with the context that the network needs.  Raises NgtrainError when the dimension is
        wrong or there are too few frames.
        """
        network = self.network
        num_chunks, num_frames, dim = frames.shape
        if dim != network.input_dim:
            raise NgtrainError(
                f"feature dimension is {dim}, but the network expects {network.input_dim}"
            )
        if not self._layouts or self._layouts[0] != FrameLayout(num_chunks, range(num_frames)):
            self._layouts = network.layouts(num_chunks, num_frames)
        x = to_device(frames).reshape(-1, dim)
        if x.dtype != network.dtype:
            x = x.astype(network.dtype)
        self._activations = [x]
        self._current_buffer = 0  # the same memory for every minibatch
        for component in network.components:
            x = self._propagate_component(component, x)
            self._activations.append(x)
        return x

    def _propagate_component(self, component: Component, x: Array) -> Array:
        c = component.index
        in_layout, out_layout = self._layouts[c : c + 2]
        if c > 0 and component.in_place and not self._is_needed(c):
            out = x
        else:
            name = f"activation {c}" if self.backward else self._other_buffer()
            out = self._workspace.array(name, (out_layout.num_rows, component.output_dim), x)
        component.propagate(x, in_layout, out_layout, out)
        return out

    def _other_buffer(self) -> str:
        """Names two buffers in turn, for data of which only the latest is needed."""
        self._current_buffer = 1 - self._current_buffer
        return f"buffer {self._current_buffer}"

    def _is_needed(self, c: int) -> bool:
        """Whether backpropagation looks at the activations between components c - 1 and c."""
        before, after = self.network.components[c - 1 : c + 1]
        return self.backward and (before.needs_output or after.needs_input)

    def compute(
        self, features: np.ndarray, pad_input: bool = True, chunk_size: int = 0
    ) -> np.ndarray:
        """The output (T', output_dim), on the host, for an utterance's features (T, input_dim).

        pad_input: repeat the first and the last frame as the context needs it, so that T' = T.
        chunk_size: compute at most so many output frames at a time, to bound memory; 0 for all.

        Raises NgtrainError as propagate() does, and for NaN or infinity in the features.
        """
        if not np.isfinite(features).all():
            raise NgtrainError("there is NaN or infinity in the features")
        left, right = self.network.left_context, self.network.right_context
        if pad_input:
            features = np.pad(features, ((left, right), (0, 0)), mode="edge")
        num_outputs = len(features) - left - right
        size = chunk_size or max(num_outputs, 1)
        chunks = [
            to_host(self.propagate(features[None, begin : begin + left + size + right])).copy()
            for begin in range(0, max(num_outputs, 1), size)
        ]
        return chunks[0] if len(chunks) == 1 else np.concatenate(chunks)

    # The objective --------------------------------------------------------------------------------

    def objective(self, minibatch: Minibatch) -> tuple[float, float, float]:
        """Propagate a minibatch and compare the outputs with its labels.

        Returns sum_k w_k log y[row_k, pdf_k], the total weight sum_k w_k, and the weight of those
        labels that are the most probable pdf of their row.  Raises NgtrainError when the minibatch
        does not fit the network.
        """
        log_prob, weight = self.log_prob(minibatch)
        rows, pdfs, weights, _ = self._labels
        best = self._activations[-1].argmax(axis=1)
        return float(log_prob), weight, float(weights[best[rows] == pdfs].sum(dtype=np.float64))

    def log_prob(self, minibatch: Minibatch) -> tuple[Array, float]:
        """The first two of what objective() returns, the first on the device, 0-dimensional."""
        self.check(minibatch)
        self.load(*map(to_device, arrays_of(minibatch)))
        log_prob = array_module(self._frames).zeros((), np.float64)
        self.add_log_prob(log_prob)
        return log_prob, float(minibatch.weights.sum(dtype=np.float64))

    def check(self, minibatch: Minibatch) -> None:
        """Raise NgtrainError when the minibatch does not fit the network."""
        network, pdfs = self.network, minibatch.pdfs
        num_frames = minibatch.frames.shape[1]
        if num_frames != network.left_context + 1 + network.right_context:
            raise NgtrainError(
                f"the examples have {num_frames} frames of input, but the network "
                f"needs {network.left_context} + 1 + {network.right_context}"
            )
        if len(pdfs) and not 0 <= pdfs.min() <= pdfs.max() < network.output_dim:
            raise NgtrainError(
                f"the examples have pdf-ids from {pdfs.min()} to {pdfs.max()}, but the network has "
                f"{network.output_dim} outputs: do the alignments come from another model?"
            )

    def load(self, frames: Array, *labels: Array) -> None:
        """Take what arrays_of() gave, once it is on the device, as the minibatch to be computed."""
        self._frames, self._labels = frames, Labels(*labels)

    def add_log_prob(self, total: Array) -> None:
        """Propagate what was loaded; add its sum_k w_k log y[row_k, pdf_k] to `total`, float64."""
        add_log_prob(self.propagate(self._frames), self._labels, PROBABILITY_FLOOR, total)

    # Backward -------------------------------------------------------------------------------------

    def backpropagate(self, gradient: Network | None = None) -> None:
        """Propagate the derivative of the last minibatch's log-probability back.

        Without `gradient` every component makes a step as soon as the derivative has passed it.
        With it, a network of the same structure, the parameters stay as they are, and their
        derivatives are added to those of `gradient`.  Statistics of nonlinearities are added to
        those of the network that changes.
        """
        components = self.network.components
        targets = components if gradient is None else gradient.components
        trained = components[self._first_updatable :]
        if not trained:
            return
        buffer = self._derivative_of_objective(trained, targets)
        for component in reversed(trained):
            x, y = self._activations[component.index : component.index + 2]
            target = targets[component.index]
            derivative = buffer[: len(y)]
            if isinstance(component, NonlinearComponent):
                component.store_statistics(y, target)
            buffer_below = None
            if component is not trained[0]:
                buffer_below = self._backpropagate_component(component, x, y, buffer)
            if isinstance(component, UpdatableComponent):
                with self._asides[component.index]:
                    if gradient is None:
                        component.update(x, buffer[: len(y) + component.spare_rows(len(y))])
                    else:
                        component.accumulate_gradient(x, derivative, target)
            buffer = buffer_below
        for updating in self._asides.values():
            updating.join()

    def _derivative_of_objective(self, trained: list[Component], targets: list[Component]) -> Array:
        """The derivative w.r.t. the output of the last of `trained`, with spare rows behind it.

        If that is a softmax, it is taken from the list and passed at once: together with the
        logarithm it has a derivative that is simpler than either's.
        """
        y = self._activations[-1]
        buffer = self._buffer_for_derivative(y, len(self.network.components))
        derivative = buffer[: len(y)]
        if isinstance(trained[-1], SoftmaxComponent):
            softmax = trained.pop()
            softmax.store_statistics(y, targets[softmax.index])
            softmax.backpropagate_log(y, self._labels, out=derivative)
        else:
            log_prob_backward(y, self._labels, PROBABILITY_FLOOR, out=derivative)
        return buffer

    def _backpropagate_component(
        self, component: Component, x: Array, y: Array, buffer: Array
    ) -> Array:
        """A buffer with the derivative w.r.t. the input, given that w.r.t. the output."""
        in_layout, out_layout = self._layouts[component.index : component.index + 2]
        below = buffer if component.in_place else self._buffer_for_derivative(x, component.index)
        derivative, out = buffer[: len(y)], below[: len(x)]
        component.backpropagate(x, y, derivative, in_layout, out_layout, out)
        return below

    def _buffer_for_derivative(self, y: Array, index: int) -> Array:
        """Memory for the derivative w.r.t. `y`, the input of component `index`.

        It has the spare rows that components need behind it.
        """
        overlaps = any(updating.overlaps for updating in self._asides.values())
        name = f"derivative {index}" if overlaps else self._other_buffer()
        rows = len(y)
        spare = max(c.spare_rows(rows) for c in self.network.updatable_components)
        return self._workspace.array(name, (rows + spare, y.shape[1]), y)


def arrays_of(minibatch: Minibatch) -> tuple[np.ndarray, ...]:
    """The frames of a minibatch, and the fields of its Labels."""
    starts = np.searchsorted(minibatch.rows, np.arange(len(minibatch) + 1)).astype(np.int32)
    return minibatch.frames, minibatch.rows, minibatch.pdfs, minibatch.weights, starts


def compute(network: Network, features: np.ndarray, pad_input: bool = True) -> np.ndarray:
    """The output (T', output_dim) of a network for the features (T, input_dim) of an utterance.

    For many utterances, keep a Propagation and call its compute().
    """
    return Propagation(network, backward=False).compute(features, pad_input)
